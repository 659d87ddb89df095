"""Second, plain implementations of the readers: line by line, in Python, from the specs.

Each takes the bytes of a file (uncompressed) and returns (chrom, position, methylated,
coverage) of each call, or raises ValueError where the file breaks the spec.
"""

import csv
import re
from fractions import Fraction


def counts_in(calls, regions):
    """Add up calls in regions, each with each; returns methylated and coverage."""
    totals = [[0, 0] for _ in range(len(regions))]
    for chrom, position, methylated, coverage in calls:
        for total, region in zip(totals, zip_regions(regions), strict=True):
            if _same_chrom(chrom, region[0]) and region[1] <= position < region[2]:
                total[0] += methylated
                total[1] += coverage
    return [t[0] for t in totals], [t[1] for t in totals]


def zip_regions(regions):
    return zip(regions.chrom.tolist(), regions.start.tolist(), regions.end.tolist(), strict=True)


def bismark_cov(content):
    calls, last = [], {}
    for fields in _rows(content, 6):
        start, end = _whole(fields[1]), _whole(fields[2])
        methylated, unmethylated = _whole(fields[4]), _whole(fields[5])
        if start < 1 or end not in (start, start + 1):
            raise ValueError("no CpG")
        share = Fraction(100 * methylated, max(methylated + unmethylated, 1))
        if abs(share - _decimal(fields[3])) > Fraction("0.500001"):
            raise ValueError("percentage")
        _ascend(last, fields[0], start)
        calls.append((fields[0], start - 1, methylated, methylated + unmethylated))
    return calls


def cytosine_report(content):
    """Return the calls in CpGs, and the share converted elsewhere (None without any)."""
    calls, last, outside = [], {}, [0, 0]
    for chrom, position, strand, methylated, unmethylated, context, three in _rows(content, 7):
        position, methylated, unmethylated = map(_whole, (position, methylated, unmethylated))
        if strand not in ("+", "-") or position < (1 if strand == "+" else 2):
            raise ValueError("position")
        if len(three) != 3 or three[0] != "C" or set(three) - set("ACGTN"):
            raise ValueError("trinucleotide")
        if context != ("CG" if three[1] == "G" else "CHG" if three[2] == "G" else "CHH"):
            raise ValueError("context")
        if context == "CG":
            _ascend(last, chrom, position)
            at = position - 1 if strand == "+" else position - 2
            calls.append((chrom, at, methylated, methylated + unmethylated))
        else:
            _name(chrom)
            outside[0] += unmethylated
            outside[1] += methylated + unmethylated
    return calls, outside[0] / outside[1] if outside[1] else None


def bedmethyl(content, hydroxymethylated="methylated"):
    lines = content.split(b"\n")
    while lines and lines[0].startswith((b"#", b"track", b"browser")):
        lines.pop(0)
    content = b"\n".join(lines)
    first = content.split(b"\n")[0]
    if first.count(b"\t") != 17:
        if first.count(b"\t") + first.count(b" ") != 17:
            return _encode(content)
        content = content.replace(b" ", b"\t")
    calls, last, of_site, left = [], {}, None, None
    for f in _rows(content, 18):
        start, end, valid = _whole(f[1]), _whole(f[2]), _whole(f[9])
        modified, canonical, other = _whole(f[11]), _whole(f[12]), _whole(f[13])
        code, _, motif = f[3].partition(",")
        if end != start + 1 or f[5] not in ("+", "-", ".") or (f[5] == "-" and start == 0):
            raise ValueError("place")
        if modified + canonical + other != valid:
            raise ValueError("sum")
        if abs(Fraction(100 * modified, max(valid, 1)) - _decimal(f[10])) > Fraction("0.006"):
            raise ValueError("percentage")
        _name(f[0])
        if code == "a" or (motif not in ("", "CG,0") and code in ("m", "h", "C")):
            continue
        if code not in ("m", "h", "C") or (hydroxymethylated != "methylated" and code == "C"):
            raise ValueError("code")
        methylated = modified + (other if hydroxymethylated == "methylated" else 0)
        if hydroxymethylated != "methylated" and code == "h":
            methylated = other
        site = (f[0], start)
        if site == of_site:
            if left != (f[5], valid, {"m": "h", "h": "m"}.get(code)):
                raise ValueError("rows of a site")
            left = None
            continue
        _ascend(last, f[0], start)
        of_site, left = site, (f[5], valid, code)
        calls.append((f[0], start - (f[5] == "-"), methylated, valid))
    return calls


def _encode(content):
    calls, last = [], {}
    for f in _rows(content, 11):
        start, end, coverage, percent = _whole(f[1]), _whole(f[2]), _whole(f[9]), _decimal(f[10])
        if end != start + 1 or f[5] not in ("+", "-", ".") or (f[5] == "-" and start == 0):
            raise ValueError("place")
        _ascend(last, f[0], start)
        calls.append((f[0], start - (f[5] == "-"), round(coverage * percent / 100), coverage))
    return calls


def _rows(content, n_columns):
    if not content:
        raise ValueError("empty")
    lines = content.decode("latin-1").split("\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise ValueError("no lines")
    for line in lines:
        fields = line.removesuffix("\r").split("\t")
        if len(fields) != n_columns:
            raise ValueError("columns")
        yield fields


def _whole(text):
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ValueError("whole number")
    return int(text)


def _decimal(text):
    if not text or set(text) - set("0123456789.") or text.count(".") > 1 or text == ".":
        raise ValueError("decimal")
    if not 0 <= Fraction(text) <= 100:
        raise ValueError("percent")
    return Fraction(text)


def _name(chrom):
    if not 0 < len(chrom) <= 64 or not all("!" <= letter <= "~" for letter in chrom):
        raise ValueError("chromosome")


def _ascend(last, chrom, position):
    _name(chrom)
    name = _plain(chrom)
    if name in last and (list(last)[-1] != name or last[name] >= position):
        raise ValueError("order")
    last[name] = position


def _plain(chrom):
    plain = chrom.removeprefix("chr")
    return "MT" if plain == "M" else plain


def _same_chrom(one, other):
    return _plain(one) == _plain(other)


def _table(content, separator):
    """Return header and rows of a table; quotes as CSV has them."""
    text = content.rstrip(b"\r\n").decode("utf-8-sig").replace("\r\n", "\n")
    if any(not (c.isprintable() or c in "\n\t" or ord(c) > 126) for c in text):
        raise ValueError("control character")
    rows = []
    for line in text.split("\n"):
        if separator == "," and '"' in line:
            fields = next(csv.reader([line], strict=True))
        else:
            fields = line.split(separator)
        rows.append(fields)
        if len(fields) != len(rows[0]):
            raise ValueError("ragged")
    if len(set(rows[0])) < len(rows[0]):
        raise ValueError("columns alike")
    if "" in rows[0][1:]:
        raise ValueError("no name")
    return rows[0], rows[1:]


def naive_table(content):
    """Return header and rows of a table separated by tabs."""
    return _table(content, "\t")


def naive_sheet(content):
    """Return sample and path of each row of a sample sheet."""
    header, rows = _table(content, ",")
    names = [name.strip(" \ufeff").lower() for name in header]
    found = []
    for row in rows:
        row = ["" if text in ("NA", "NaN", "nan") else text.strip() for text in row]
        if any(row):
            found.append((row[names.index("sample")], row[names.index("path")]))
    if not all(sample and path for sample, path in found):
        raise ValueError("no sample or path")
    return found


_NUMBER = re.compile(r"[ \t]*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[ \t]*", re.ASCII)


def _count(text):
    if not _NUMBER.fullmatch(text) or not float(text).is_integer() or float(text) < 0:
        raise ValueError("count")
    return int(float(text))


def _fraction(text):
    if text in ("", "NA", "NaN", "nan"):
        return None
    if not _NUMBER.fullmatch(text) or not 0 <= float(text) <= 1:
        raise ValueError("fraction")
    return float(text)


def _counts_table(content, regions, options):
    header, rows = _table(content, "\t")
    if [name.lower() for name in header[:3]] != ["chrom", "start", "end"]:
        raise ValueError("header")
    names = [name.removesuffix("_METH") for name in header[3:] if name.endswith("_METH")]
    if sorted(header[3:]) != sorted(n + end for n in names for end in ("_METH", "_DEPTH")):
        raise ValueError("samples")
    found = [f"{row[0].strip()}:{_count(row[1])}-{_count(row[2])}" for row in rows]
    if found != regions.names.tolist():
        raise ValueError("regions")
    columns = {name: [_count(row[i]) for row in rows] for i, name in enumerate(header) if i > 2}
    return [columns[n + "_METH"] for n in names], [columns[n + "_DEPTH"] for n in names], names


def _array(content, regions, options):
    header, rows = _table(content, ",")
    values = {}
    for row in rows:
        probe = re.fullmatch(r"cg(\d{8})(_[TB][CO]\d+)?", row[0].strip(), re.ASCII)
        fractions = [_fraction(text) for text in row[1:]]
        if probe:
            values.setdefault(int(probe[1]), []).append(fractions)
        elif not re.match(r"rs\d|ch\.|nv[-_]|ctl", row[0].strip()):
            raise ValueError("probe")
    if [f"probe:{n}-{n + 1}" for n in values] != regions.names.tolist():
        raise ValueError("probes")
    n = options.pseudo_coverage
    methylated, coverage = [], []
    for sample in range(len(header) - 1):
        known = [[f[sample] for f in rows if f[sample] is not None] for rows in values.values()]
        coverage.append([n if k else 0 for k in known])
        methylated.append([round(n * sum(k) / len(k)) if k else 0 for k in known])
    return methylated, coverage, header[1:]


def _beta_table(content, regions, options):
    header, rows = _table(content, "\t")
    if [name.lower() for name in header[:5]] != ["chr", "start", "end", "startcpg", "endcpg"]:
        raise ValueError("header")
    found = [(row[0].strip(), *map(_count, row[1:5])) for row in rows]
    columns = (regions.chrom, regions.start, regions.end, regions.start_cpg, regions.end_cpg)
    if found != list(zip(*(column.tolist() for column in columns), strict=True)):
        raise ValueError("regions")
    n = options.pseudo_coverage
    values = [[_fraction(row[i]) for row in rows] for i in range(5, len(header))]
    coverage = [[0 if v is None else n for v in column] for column in values]
    return [[round((v or 0) * n) for v in column] for column in values], coverage, header[5:]


def _beta(width):
    def read(content, regions, options):
        if len(content) % (2 * width):
            raise ValueError("length")
        values = [
            int.from_bytes(content[i : i + width], "little") for i in range(0, len(content), width)
        ]
        methylated, coverage = [], []
        for a, b in zip(regions.start_cpg.tolist(), regions.end_cpg.tolist(), strict=True):
            pairs = [(values[2 * i - 2], values[2 * i - 1]) for i in range(a, b)]
            if any(m > n for m, n in pairs):
                raise ValueError("more methylated than all")
            methylated.append(sum(m for m, _ in pairs))
            coverage.append(sum(n for _, n in pairs))
        return [methylated], [coverage], None

    return read


def _pat(content, regions, options):
    kinds = regions.directions.tolist() if regions.feature == "u_fragment" else [""] * len(regions)
    totals, last = [[0, 0] for _ in range(len(regions))], 0
    for line in content.decode("latin-1").removesuffix("\n").split("\n"):
        chrom, index, pattern, count = line.removesuffix("\r").split("\t")[:4]
        index, count = _whole(index), _whole(count)
        if not 0 < len(chrom) <= 64 or not pattern or set(pattern) - set("CTH.") or not count:
            raise ValueError("line")
        if index < max(last, 1):
            raise ValueError("order")
        last = index
        ranges = zip(
            regions.chrom, regions.start_cpg.tolist(), regions.end_cpg.tolist(), strict=True
        )
        for total, kind, (name, a, b) in zip(totals, kinds, ranges, strict=True):
            inside = pattern[max(a - index, 0) : max(b - index, 0)]
            if inside and not _same_chrom(chrom, name):
                raise ValueError("chromosome")
            methylated = sum(letter in "CH" for letter in inside)
            known = sum(letter != "." for letter in inside)
            if not kind:
                total[0] += count * methylated
                total[1] += count * known
            elif known >= options.min_cpgs:
                share = Fraction(methylated, known)
                is_kind = (
                    share <= options.u_at_most if kind == "U" else share >= options.m_at_least
                )
                total[0] += count * is_kind
                total[1] += count
    return [[t[0] for t in totals]], [[t[1] for t in totals]], None


def _of_calls(calls, regions):
    methylated, coverage = counts_in(calls, regions)
    return [methylated], [coverage], None


NAIVE = {
    "counts table": _counts_table,
    "beta_to_table": _beta_table,
    "beta": _beta(1),
    "lbeta": _beta(2),
    "pat": _pat,
    "array beta values": _array,
    "Bismark coverage": lambda content, regions, _: _of_calls(bismark_cov(content), regions),
    "cytosine report": lambda content, regions, _: _of_calls(cytosine_report(content)[0], regions),
    "bedMethyl": lambda content, regions, _: _of_calls(bedmethyl(content), regions),
}
"""By the name of a format: content, regions and options to methylated and coverage, a list a
sample, and names of samples where the content has them. Regions are where to count or, for
tables with their own, what the reader found, to compare with."""


def _atlas(rows, tissues):
    """Return profiles by region: what is missing is the mean of the others, or a half."""
    names, columns = [], []
    for name, *texts in rows:
        values = [_fraction(text) for text in texts]
        known = [v for v in values if v is not None]
        missing = sum(known) / len(known) if known else 0.5
        names.append(name)
        columns.append([min(max(missing if v is None else v, 1e-3), 1 - 1e-3) for v in values])
    if len(tissues) < 2 or len(set(names)) < len(names):
        raise ValueError("tissues or regions")
    return tissues, names, [list(profile) for profile in zip(*columns, strict=True)]


def _interval(chrom, start, end):
    if not chrom or chrom in ("NA", "NaN", "nan") or not _count(start) < _count(end):
        raise ValueError("interval")
    return f"{chrom}:{_count(start)}-{_count(end)}"


def _means(content):
    header, rows = _table(content, "\t")
    if [n.lower() for n in header[:3]] not in (["chr", "start", "end"], ["chrom", "start", "end"]):
        raise ValueError("header")
    return _atlas([(_interval(*row[:3]), *row[3:]) for row in rows], header[3:])


def _uxm(content):
    header, rows = _table(content, "\t")
    if header[:8] != ["chr", "start", "end", "startCpG", "endCpG", "target", "name", "direction"]:
        raise ValueError("header")
    if any(
        row[7] not in "UM" or not row[5] or not _count(row[3]) < _count(row[4]) for row in rows
    ):
        raise ValueError("direction or indices")
    return _atlas([(_interval(*row[:3]), *row[8:]) for row in rows], header[8:])


def _array_atlas(content):
    header, rows = _table(content, ",")
    probes = {}
    for row in rows:
        probe = re.fullmatch(r"cg(\d{8})(_[TB][CO]\d+)?", row[0].strip(), re.ASCII)
        fractions = [_fraction(text) for text in row[1:]]
        if probe:
            probes.setdefault(int(probe[1]), []).append(fractions)
        elif not re.match(r"rs\d|ch\.|nv[-_]|ctl", row[0].strip()):
            raise ValueError("probe")
    merged = []
    for number, copies in probes.items():
        known = [[v for v in values if v is not None] for values in zip(*copies, strict=True)]
        means = [repr(sum(k) / len(k)) if k else "" for k in known]
        merged.append((f"probe:{number}-{number + 1}", *means))
    return _atlas(merged, header[1:])


NAIVE_ATLASES = {"means.tsv": _means, "uxm.tsv": _uxm, "array.csv": _array_atlas}
"""By file: content to tissues, names of regions and profiles."""


def naive_regions(content):
    """Return names and CpG indices (None where there are none) of a region file."""
    lines = content.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n").split(b"\n")
    comments = (b"#", b"track", b"browser")
    n_comments = next((i for i, line in enumerate(lines) if not line.startswith(comments)), 0)
    last = lines[max(n_comments - 1, 0)].removeprefix(b"#")
    if [c.lower() for c in last.split(b"\t")[:3]] in (
        [b"chr", b"start", b"end"], [b"chrom", b"start", b"end"]
    ):  # fmt: skip
        n_comments -= 1
    lines = lines[max(n_comments, 0) :]
    first = lines[0].decode().removeprefix("#").rstrip("\r").split("\t")
    plain = [name.strip().lower() for name in first]
    if plain[1:3] == ["start", "end"]:
        header, rows = _table(b"\n".join(lines), "\t")
        header = [name.removeprefix("#").strip().lower() for name in header]
        place = {name: i for i, name in enumerate(header)}
        if len(place) < len(header) or {"chr", "chrom"} <= set(place):
            raise ValueError("columns alike")
    else:
        _, rows = _table(
            b"\n".join([b"\t".join(b"%d" % i for i in range(len(first))), *lines]), "\t"
        )
        place = dict(zip(["chrom", "start", "end"], range(3), strict=True))
        if len(first) > 4 and all(_are_indices(row) for row in rows):
            place |= {"startcpg": 3, "endcpg": 4}
    chrom = place["chr"] if "chr" in place else place["chrom"]
    names = [_interval(r[chrom].strip(), r[place["start"]], r[place["end"]]) for r in rows]
    if "startcpg" not in place and "endcpg" not in place:
        return names, None
    return names, [(_count(r[place["startcpg"]]), _count(r[place["endcpg"]])) for r in rows]


def _are_indices(row):
    try:
        start, end, first, last = map(_count, row[1:5])
    except ValueError:
        return False
    return 1 <= first < last and 2 * (last - first) <= end - start + 2
