"""What a hostile or broken peer does to a broker. Each attack is prepared while the broker is calm,
then runs until its time is over: attack(broker, until), with the ports of `broker` and a moment of
time.monotonic().
"""
import os
import secrets
import socket
import struct
import time

from peer import CANCEL, COLLECTED, CONFIRM, CREDIT, HEARTBEAT, HELLO, LEASE, OUTCOME, QUERY, REGISTER, REJECT, SUBMIT
from peer import Peer, raw_connection
import msgpack

MIB = 1 << 20
FLOODING_PEERS = 4


def flood(peers, frames, until):
    """Each peer sends its frame as often as the broker takes it."""
    while time.monotonic() < until:
        sent = [peer.try_send(frame) for peer, frame in zip(peers, frames)]
        for peer in peers:
            peer.discard()
        if not any(sent):
            time.sleep(0.002)


def producers(broker, count=FLOODING_PEERS):
    return [Peer(broker.frontend, high_water_mark=64).hello() for _ in range(count)]


def idle_connections(broker, until):
    """1,100 TCP connections to the backend that say nothing"""
    held = open_idle(broker.backend, 1100)
    hold(held, until)


def idle_http(broker, until):
    """400 HTTP connections that ask nothing"""
    hold(open_idle(broker.http, 400), until)


def open_idle(port, count):
    held = []
    for _ in range(count):
        try:
            connection = socket.create_connection(("127.0.0.1", port), 1)
        except OSError:
            break
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        held.append(connection)
    return held


def hold(held, until):
    while time.monotonic() < until:
        time.sleep(0.1)
    for connection in held:
        connection.close()


def query_repeated(broker, until):
    """QUERYs that name the same 256 jobs 4,096 times"""
    peers = producers(broker)
    first = peers[0].submit_all(256, "idle")
    flood(peers, [peer.frame(QUERY, [[first, 256]] * 4096) for peer in peers], until)


def query_result(broker, until):
    """a QUERY that names one result of 1 MiB 4,096 times, and a peer that reads slowly"""
    peer = Peer(broker.frontend).hello()
    job = peer.submit_all(1, "echo", {"report": "result"}, bytes(MIB))
    peer.wait_for(OUTCOME)
    peer.send(QUERY, [[job, 1]] * 4096)
    while time.monotonic() < until:
        if not peer.receive(0.2):
            peer.send(HEARTBEAT)


def poll_result(broker, until):
    """one result of 64 KiB, asked for again and again"""
    peer = Peer(broker.frontend).hello()
    job = peer.submit_all(1, "echo", {"report": "result"}, bytes(64 << 10))
    peer.wait_for(OUTCOME)
    while time.monotonic() < until:
        peer.send(QUERY, [[job, 1]])
        peer.wait_for(OUTCOME, 1)


def cancel_flood(broker, until):
    """CANCELs of a million jobs, from four peers"""
    peers = producers(broker)
    flood(peers, [peer.frame(CANCEL, [[2**40, 1 << 20]]) for peer in peers], until)


def collected_flood(broker, until):
    """COLLECTEDs of a million jobs, from four peers"""
    peers = producers(broker)
    flood(peers, [peer.frame(COLLECTED, [[2**40, 1 << 20]]) for peer in peers], until)


def below_floor(broker, until):
    """SUBMITs of 4,096 sequences below the floor, from four peers"""
    peers = producers(broker)
    for peer in peers:
        peer.submit(100_000, "idle", {}, [b""])
    flood(peers, [peer.frame(SUBMIT, 100_000, 1, "idle", {}, [b""] * 4096) for peer in peers], until)


def credit_flood(broker, until):
    """CREDITs, from four workers"""
    peers = [Peer(broker.backend, high_water_mark=64).register(["idle"]) for _ in range(FLOODING_PEERS)]
    flood(peers, [peer.frame(CREDIT, 1) for peer in peers], until)


def hello_flood(broker, until):
    """HELLOs with new sessions, from four connections"""
    peers = [Peer(broker.frontend, high_water_mark=64) for _ in range(FLOODING_PEERS)]
    while time.monotonic() < until:
        for peer in peers:
            peer.try_send(msgpack.packb([1, HELLO, secrets.randbits(63) | 1, os.urandom(16)]))
            peer.discard()


def sessions(broker, until):
    """16,384 sessions over one connection, kept alive"""
    peer = Peer(broker.frontend)
    opened = [secrets.randbits(63) | 1 for _ in range(16384)]
    for session in opened:
        peer.socket.send(msgpack.packb([1, HELLO, session, os.urandom(16)]))
    while time.monotonic() < until:
        for session in opened:
            peer.socket.send(msgpack.packb([1, HEARTBEAT, session]))
        peer.discard()
        time.sleep(1)


def low_floor(broker, until):
    """a producer that never raises its floor: every sequence is one more to remember"""
    peer = Peer(broker.frontend, high_water_mark=8).hello()
    first, unanswered = 1, 0
    while time.monotonic() < until:
        peer.submit(first, "idle", {"keys": [b"k"] * 4096}, [b""] * 4096, floor=1)
        first, unanswered = first + 4096, unanswered + 1
        while unanswered >= 6 and time.monotonic() < until:
            message = peer.receive(0.2)
            if message and message[0] in (CONFIRM, REJECT):
                unanswered -= 1


def many_queues(broker, until):
    """a queue for each job"""
    peer = Peer(broker.frontend, high_water_mark=64).hello()
    sequence = 1
    while time.monotonic() < until:
        frame = peer.frame(SUBMIT, sequence, sequence, f"q.{secrets.token_hex(6)}", {}, [b""])
        sequence += peer.try_send(frame)
        peer.discard()


def registers(broker, until):
    """400 REGISTERs a second, while another worker holds 200,000 leases"""
    jobs = 200_000
    producer = Peer(broker.frontend).hello()
    for first in range(1, jobs, 4000):
        producer.submit(first, "held", {}, [b""] * 4000)
    for _ in range(1, jobs, 4000):
        producer.wait_for(CONFIRM)
    holder = Peer(broker.backend).register(["held"])
    holder.send(CREDIT, 2**40)
    leased = 0
    while leased < jobs and time.monotonic() < until:
        message = holder.receive(0.5)
        leased += len(message[2]) if message and message[0] == LEASE else 0
        holder.send(HEARTBEAT)
    peer = Peer(broker.backend)
    while time.monotonic() < until:
        for _ in range(20):
            session = secrets.randbits(63) | 1
            peer.socket.send(msgpack.packb([1, REGISTER, session, os.urandom(16), "attacker", ["none"], 1, []]))
        peer.discard()
        holder.send(HEARTBEAT)
        holder.discard()
        time.sleep(0.05)


def endless_message(broker, until):
    """one ZeroMQ message of parts without end"""
    part = b"\x03" + struct.pack(">Q", 65536) + bytes(65536)
    while time.monotonic() < until:
        try:
            connection = raw_connection(broker.frontend)
            connection.settimeout(1)
            while time.monotonic() < until:
                connection.sendall(part * 16)
        except OSError:
            time.sleep(0.05)  # it was closed; again


def readers_of_nothing(broker, until):
    """24 peers that ask for 32 MiB of results each and read none of them"""
    submitter = Peer(broker.frontend).hello()
    for sequence in range(1, 33):
        submitter.submit(sequence, "echo", {"report": "result"}, [bytes(MIB)])
    first = submitter.wait_for(CONFIRM)[2][0][2]
    for _ in range(32):
        submitter.wait_for(OUTCOME)
    connections = []
    for _ in range(24):
        connection = raw_connection(broker.frontend)
        session = secrets.randbits(63) | 1
        frames = [msgpack.packb([1, HELLO, session, os.urandom(16)]),
                  *[msgpack.packb([1, QUERY, session, [[first, 32]]])] * 64]
        for frame in frames:
            connection.sendall(bytes([0, len(frame)]) + frame)
        connections.append((connection, session))
    while time.monotonic() < until:
        for connection, session in connections:
            beat = msgpack.packb([1, HEARTBEAT, session])
            try:
                connection.sendall(bytes([0, len(beat)]) + beat)
            except OSError:
                pass
        time.sleep(0.5)


def fill(broker, until):
    """one producer that submits as many jobs as the broker takes"""
    peer = Peer(broker.frontend).hello()
    first, unanswered = 1, 0
    while time.monotonic() < until:
        while unanswered < 30:
            peer.submit(first, "hoard", {}, [b""] * 4096)
            first, unanswered = first + 4096, unanswered + 1
        message = peer.receive(0.5)
        if message and message[0] in (CONFIRM, REJECT):
            unanswered -= 1
        if message and message[0] == REJECT:
            time.sleep(0.05)


ATTACKS = {attack.__name__.replace("_", "-"): attack for attack in (
    idle_connections, idle_http, query_repeated, query_result, poll_result, cancel_flood, collected_flood,
    below_floor, credit_flood, hello_flood, sessions, low_floor, many_queues, registers, endless_message,
    readers_of_nothing, fill)}
