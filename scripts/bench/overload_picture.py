"""The picture of overload-demo.sh, by gnuplot."""
import report

COLOURS = {"direct": "#b03a3a", "single": "#8a8a8a", "per-job": "#4c8c5a", "fixed": "#5b7aa8", "auto": "#d08030"}
LOST = "#b03a3a"
DONE = "#5b7aa8"
SHORT = {"direct": "direct", "single": "single thread", "per-job": "thread per job", "fixed": "fixed 16", "auto": "auto"}


def text_of(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{1 if value < 10 else 0}f}"


def bars(records, value, least):
    """A data block: position, name, value, its text; a logarithmic axis has no place for 0."""
    return [f'{i} "{SHORT[r["system"]]}" {max(value(r), least)} "{text_of(value(r))}"' for i, r in enumerate(records)]


def panel(name, rows, records, title, label, setting):
    """Bars of one value, each in its system's colour and with its number above."""
    block = f"${name}"
    plots = [f"{block} every ::{i}::{i} using 1:3:xtic(2) with boxes lc rgb '{COLOURS[r['system']]}'"
             for i, r in enumerate(records)]
    plots.append(f"{block} using 1:3:4 with labels offset 0,0.6 font ',10'")
    return [f"{block} << EOD", *rows, "EOD", "unset logscale y", f"set title '{title}'", f"set ylabel '{label}'",
            f"set xrange [-0.6:{len(records) - 0.4}]", setting, "plot " + ", ".join(plots)]


def what_became(records):
    rows = [f'{i} "{SHORT[r["system"]]}" {r["offered"] - r["lost"]} {r["lost"]} '
            f'"{r["lost"] or "none":{"," if r["lost"] else ""}} lost"' for i, r in enumerate(records)]
    return ["$became << EOD", *rows, "EOD", "set title 'What became of the requests'", "set ylabel 'requests'",
            f"set xrange [-0.6:{len(records) - 0.4}]",
            f"set yrange [0:{max(r['offered'] for r in records) * 1.3}]", "set key top right horizontal samplen 1.5",
            f"plot $became using 1:3:xtic(2) with boxes lc rgb '{DONE}' title 'answered and done', "
            f"'' using 1:($3 + $4 / 2):(0.375):($4 / 2) with boxxyerror lc rgb '{LOST}' notitle, "
            f"NaN with boxes lc rgb '{LOST}' title 'lost', "
            "'' using 1:($3 + $4):5 with labels offset 0,0.6 font ',10' notitle"]


def over_time(records, rate):
    script = []
    for record in records:
        script += [f"$time_{record['system'].replace('-', '_')} << EOD",
                   *(f"{i + 0.5} {second['answered']}" for i, second in enumerate(record["per_second"])), "EOD"]
    plots = [f"{rate} with lines dt 2 lc rgb '#444444' title 'offered'"]
    plots += [f"$time_{r['system'].replace('-', '_')} using 1:2 with linespoints pt 7 ps 0.35 lw 1.5 "
              f"lc rgb '{COLOURS[r['system']]}' title '{SHORT[r['system']]}'" for r in records]
    return script + ["set title 'Answered in time, by the second in which they were due'", "set ylabel 'requests/s'",
                     "set xlabel 's'", "set xtics norotate autofreq", f"set xrange [0:{len(records[0]['per_second'])}]",
                     f"set yrange [0:{rate * 1.45}]", "set key top center horizontal maxrows 2 samplen 1.5",
                     "plot " + ", ".join(plots)]


def draw(made, path):
    records = made["records"]
    top = "set lmargin 12; set rmargin 2; set tmargin 3; set bmargin 3.5"
    script = ["set style fill solid 0.85 noborder", "set boxwidth 0.75",
              f"set multiplot title \"{made['rate']:,} requests/s for {made['seconds']} s, {made['handler']} each, "
              f"time-out 1 s, on {made['machine']['cores']} cores\"", top,
              "set xtics norotate scale 0 font ',10'", "set origin 0,0.47; set size 0.5,0.48", *what_became(records),
              "set origin 0.5,0.47; set size 0.5,0.48", *over_time(records, made["rate"]),
              "unset xlabel", "set key off", "set format y '%g'", "set xtics rotate by 25 right scale 0 font ',10'",
              "set bmargin 4; set lmargin 10"]
    panels = (("p99", "Time to the answer, p99 of the answered", "ms", lambda r: r["latency_ms"]["p99"], 0.1,
               "set logscale y; set yrange [0.1:*<10000]"),
              ("drain", "Work left when the load was over", "s", lambda r: r["drain_seconds"], 0,
               f"set yrange [0:{max(1, *(r['drain_seconds'] for r in records)) * 1.2}]"),
              ("threads", "Threads, at most", "threads", lambda r: r["peak_threads"], 1,
               f"set logscale y; set yrange [1:{max(100, *(r['peak_threads'] * 3 for r in records))}]"))
    for i, (name, title, label, value, least, setting) in enumerate(panels):
        script += [f"set origin {i / 3:.4f},0; set size 0.3333,0.47",
                   *panel(name, bars(records, value, least), records, title, label, setting)]
    report.gnuplot(path, "1200,820", script)
