"""Files of any format into one, several at a time: the same as one by one, whole or absent."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from reader_examples import EXAMPLES, REGIONS

from deconv.convert import convert_files, inferred_build
from deconv.errors import InputError, MismatchError
from deconv.formats import ReadOptions, read_counts
from deconv.regions import RegionSet
from deconv.staging import staging_folder
from deconv.store import write_h5ad
from deconv.stored import read_h5ad

GENOME_WIDE = [
    e for e in EXAMPLES if e.format in ("beta", "lbeta", "pat") and e.regions is REGIONS
]


def convert(paths, tmp_path, **options):
    out = tmp_path / "out" / "counts.h5ad"
    options = {"options": ReadOptions(), "n_jobs": 1, **options}
    return out, convert_files(paths, out, **options).notes


@pytest.fixture
def files(tmp_path):
    """Written examples of formats that need regions, each with a sample of its own."""
    return [
        e.write(tmp_path, f"{i}-{e.file}{'.gz' * (i == 1)}", packed=i == 1)
        for i, e in enumerate(GENOME_WIDE)
    ]


def test_samples_come_as_read_one_by_one_in_the_order_of_the_files(files, tmp_path):
    out, notes = convert(files, tmp_path, regions=REGIONS)
    counts = read_h5ad(out)
    assert counts.regions.content_hash == REGIONS.content_hash
    assert counts.samples.index.tolist() == ["0-sample", "1-sample", "2-sample"]
    for row, path in enumerate(files):
        alone = read_counts(path, regions=REGIONS)
        assert counts.methylated[row].tolist() == alone.methylated[0].tolist()
        assert counts.coverage[row].tolist() == alone.coverage[0].tolist()
    assert [n.split(": ")[1] for n in notes] == [
        f"1 sample, {n} of 3 regions empty" for n in (0, 1, 1)
    ]
    assert [p.name for p in out.parent.iterdir()] == ["counts.h5ad"]


def test_several_processes_give_the_same_file(files, tmp_path):
    advanced = []
    alone, _ = convert(files, tmp_path / "a", regions=REGIONS)
    together, _ = convert(
        files,
        tmp_path / "b",
        regions=REGIONS,
        n_jobs=2,
        advance=lambda *done: advanced.append(done),
    )
    assert read_h5ad(alone).content_hash == read_h5ad(together).content_hash
    assert advanced == [(n, len(files)) for n in range(1, len(files) + 1)]


def test_converting_a_converted_file_loses_nothing(tmp_path, pure, unseen):
    from deconv.evaluate import draw_mixtures

    for name, counts in {"pure": pure, "mixtures": draw_mixtures(unseen, 4)}.items():
        write_h5ad(counts, tmp_path / f"{name}.h5ad")
        out, _ = convert([tmp_path / f"{name}.h5ad"], tmp_path)
        assert read_h5ad(out).content_hash == counts.content_hash


def test_files_with_regions_of_their_own_are_matched_by_name_and_it_is_said(tmp_path, make_counts):
    counts = make_counts()  # chr1:0-50 and chr1:100-150, hg38
    write_h5ad(counts, tmp_path / "a.h5ad")
    (tmp_path / "b.tsv").write_text(
        "chrom\tstart\tend\tx_METH\tx_DEPTH\n1\t100\t150\t3\t5\n1\t7\t9\t1\t1\n"
    )
    options = {"options": ReadOptions(build="hg38"), "min_overlap": 0.5}
    paths = [tmp_path / "a.h5ad", tmp_path / "b.tsv"]
    out, notes = convert(paths, tmp_path, **options)
    found = read_h5ad(out)
    assert found.methylated.tolist() == [[1, 2], [0, 3], [0, 3]]
    assert found.coverage.tolist() == [[2, 2], [0, 4], [0, 5]]
    assert notes == [
        f"{paths[0]}: 2 samples, 0 to 1 of 2 regions empty",
        f"{paths[1]}: 1 of 2 regions are among its 2",
        f"{paths[1]}: chromosome 1 of the file is taken as chr1 of the regions",
        f"{paths[1]}: 1 sample, 1 of 2 regions empty",
    ]
    with pytest.raises(MismatchError, match="1 of the 2 regions needed"):
        convert(paths, tmp_path, options=ReadOptions(build="hg38"))


def test_sample_tables_that_differ_are_joined(tmp_path, make_counts):
    labelled = make_counts(tissue=["a", "b"], depth=[1.5, 2.0])
    other = make_counts()
    other = replace(other, samples=pd.DataFrame(index=["s7", "s8"]))
    for name, counts in {"a": labelled, "b": other}.items():
        write_h5ad(counts, tmp_path / f"{name}.h5ad")
    out, _ = convert([tmp_path / "b.h5ad", tmp_path / "a.h5ad"], tmp_path)
    samples = read_h5ad(out).samples
    assert samples.index.tolist() == ["s7", "s8", "s0", "s1"]
    assert samples["tissue"].tolist()[2:] == ["a", "b"]
    assert samples["depth"].isna().tolist() == [True, True, False, False]


def test_same_sample_twice_is_refused_and_nothing_is_left(tmp_path, make_counts):
    for name in "ab":
        write_h5ad(make_counts(), tmp_path / f"{name}.h5ad")
    with pytest.raises(InputError, match=r"b\.h5ad: two files have the same sample; got s0"):
        convert([tmp_path / "a.h5ad", tmp_path / "b.h5ad"], tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_one_bad_file_is_named_and_nothing_is_left(files, tmp_path, n_jobs):
    bad = tmp_path / "bad.beta"
    bad.write_bytes(b"\0\1\0")
    with pytest.raises(InputError, match=r"bad\.beta"):
        convert([*files, bad], tmp_path, regions=REGIONS, n_jobs=n_jobs)
    assert list((tmp_path / "out").iterdir()) == []


def test_files_that_need_regions_say_so(files, tmp_path):
    with pytest.raises(InputError, match="pat holds no regions; expected regions to count in"):
        convert(files, tmp_path)


def test_build_is_told_by_the_length_of_a_file(tmp_path, files):
    sizes = {"a.beta": 56_434_896, "b.beta": 2 * 29_401_795, "c.lbeta": 2 * 56_434_896}
    for name, size in sizes.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    paths = [tmp_path / name for name in sizes]
    assert inferred_build([*files, paths[0], paths[2]]) == "hg19"
    assert inferred_build([*files, paths[1]]) == "hg38"
    assert inferred_build(files) == "unknown"
    with pytest.raises(MismatchError, match=r"b\.beta: the files are of different .*; got hg38"):
        inferred_build(paths)


def test_command_counts_real_samples(deconv, tmp_path, shared_data):
    folder = shared_data / "uxm"
    out = tmp_path / "out.h5ad"
    atlas = folder / "Atlas.U25.l4.hg19.tsv"
    inputs = [folder / f"{name}.pat.gz" for name in ("Liver_STL011", "Lung_STL002")]
    status, output, error = deconv("convert", *inputs, "--regions", atlas, "-o", out, "--jobs", 1)
    assert status == 0, error
    lines = output.splitlines()
    assert lines[:3] == [
        f"{atlas}: 900 regions of hg19",  # inferred: one ends beyond hg38's chromosome
        f"{inputs[0]}: 1 sample, 224 of 900 regions empty",
        f"{inputs[1]}: 1 sample, 226 of 900 regions empty",
    ]
    assert "224 of 900 regions have no observation" in " ".join(output.split())
    assert lines[-1] == str(out)
    assert read_h5ad(out).regions.feature == "u_fragment"


def test_command_takes_the_build_from_a_beta_and_refuses_regions_of_another(deconv, tmp_path):
    path, bed, out = tmp_path / "a.beta", tmp_path / "r.bed", tmp_path / "o.h5ad"
    with path.open("wb") as file:
        file.write(bytes([1, 2]) * 20)
        file.truncate(56_434_896)
    bed.write_text("chr1\t100\t200\t3\t9\n")
    arguments = ("convert", path, "--regions", bed, "-o", out, "--jobs", 1)
    status, output, error = deconv(*arguments)
    assert (status, output.splitlines()[0]) == (0, f"{bed}: 1 regions of hg19"), error
    assert read_h5ad(out).coverage.tolist() == [[12]]
    bed.write_text("chr17\t83000000\t83000100\t3\t9\n")  # of hg38 only
    status, _, error = deconv(*arguments)
    assert status == 2
    assert "another genome build than hg19" in error
    assert "would fit hg38 or mm10, and is not lifted over" in error
    status, _, error = deconv(*arguments, "--build", "hg38")
    assert status == 2
    assert "not lifted over); got 28217448 CpGs, as hg19 has; expected 29401795 of hg38" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "x.csv"], "x.csv: unknown suffix; expected .h5ad"),
        (["-o", "x.h5ad", "--min-cpgs", 0], "--min-cpgs: Input should be greater than"),
        (["-o", "x.h5ad", "--u-at-most", 0.8], "u_at_most must be less than m_at_least"),
        (["-o", "x.h5ad"], "none.pat: no such file"),
        (["-o", "x.h5ad", "--regions", "none.bed"], "no such file"),
    ],
)
def test_command_says_what_is_wrong(deconv, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    status, _, error = deconv("convert", "none.pat", *options)
    assert status == 2
    assert message in error
    assert list(tmp_path.iterdir()) == []


def table_of(rng, folder, n=8, prefix="s", wrong=()):
    """A counts table of samples of one kind; the ``wrong`` ones have their counts turned round."""
    beta = rng.choice([0.05, 0.5, 0.95], 120)
    depth = rng.poisson(20, (n, 120))
    methylated = rng.binomial(depth, beta)
    for i in wrong:
        methylated[i] = depth[i] - methylated[i]
    names = [f"{prefix}{i}" for i in range(n)]
    head = ["chrom", "start", "end", *(f"{s}_{k}" for s in names for k in ("METH", "DEPTH"))]
    pairs = np.stack([methylated, depth], axis=1).reshape(2 * n, -1).T
    rows = [["chr1", 100 * i, 100 * i + 50, *pair] for i, pair in enumerate(pairs.tolist())]
    path = folder / f"{prefix}.tsv"
    path.write_text("\n".join("\t".join(map(str, row)) for row in [head, *rows]) + "\n")
    return path


def test_samples_are_checked_without_a_model(deconv, tmp_path):
    path = table_of(np.random.default_rng(0), tmp_path, wrong=[3])
    sheet = tmp_path / "sheet.csv"
    rows = [f"s{i},s.tsv,p{i},{90 if i == 5 else 99.8}" for i in range(8)]
    sheet.write_text("\n".join(["sample,path,donor,conversion", *rows]))
    out, json_path = tmp_path / "o.h5ad", tmp_path / "o.json"
    arguments = ("convert", sheet, "-o", out, "--build", "hg38", "--json", json_path)
    status, output, error = deconv(*arguments)
    assert status == 0, error
    assert "bisulfite conversion 90.0%" in " ".join(output.split())
    content = json.loads(json_path.read_text())
    found = [(f["severity"], f["check"], f["sample"]) for f in content["findings"]]
    assert found == [("error", "conversion", "s5"), ("warning", "outliers", "s3")]
    assert content["quality"]["s3"]["relation"] < -0.9
    assert min(content["quality"][f"s{i}"]["relation"] for i in (0, 1, 2, 4, 5, 6, 7)) > 0.9
    assert content["regions"] == {
        "total": 120, "observed in no sample": 0, "observed in all samples": 120,
    }  # fmt: skip
    assert read_h5ad(out).samples["donor"].tolist() == [f"p{i}" for i in range(8)]
    assert len(content["files"]) == 1
    assert content["files"][0].startswith(f"{path}: 8 samples")


def test_same_data_in_two_files_are_found(tmp_path):
    paths = [table_of(np.random.default_rng(0), tmp_path, n=1, prefix=p) for p in ("a", "b")]
    out = tmp_path / "o.h5ad"
    result = convert_files(paths, out, options=ReadOptions(build="hg38"), n_jobs=1)
    assert [(f.check, f.sample, f.reason) for f in result.findings] == [
        ("duplicates", "b0", "has the same data as a0")
    ]


def test_checks_are_the_same_with_any_number_of_processes_and_chunks(tmp_path):
    rng = np.random.default_rng(1)
    paths = [table_of(rng, tmp_path, n=40, prefix=p) for p in "ab"]  # more than are held at once
    both = [
        convert_files(paths, tmp_path / f"{n}.h5ad", options=ReadOptions(build="x"), n_jobs=n)
        for n in (1, 2)
    ]
    tables = [result.measured.table for result in both]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    counts = read_h5ad(tmp_path / "1.h5ad")
    assert tables[0]["coverage"].tolist() == counts.coverage.mean(axis=1).tolist()
    assert (both[0].measured.signature[:, 1] == counts.coverage).all()


def test_atlas_tells_more_of_what_is_converted(deconv, tmp_path, shared_data):
    folder, json_path = shared_data / "uxm", tmp_path / "o.json"
    atlas = folder / "Atlas.U25.l4.hg19.tsv"
    arguments = ("--regions", atlas, "-o", tmp_path / "o.h5ad", "--json", json_path, "--jobs", 1)
    liver = folder / "Liver_STL011.pat.gz"
    assert deconv("convert", liver, *arguments)[0] == 0
    without = json.loads(json_path.read_text())
    status, output, error = deconv("convert", liver, *arguments, "--atlas", atlas)
    assert status == 0, error
    assert "not assessable: Smooth-Musc (2 of 25" in " ".join(output.split())
    quality = json.loads(json_path.read_text())["quality"]["Liver_STL011"]
    assert quality["misfit"] < 1
    assert quality["content"] == without["quality"]["Liver_STL011"]["content"]
    assert without["quality"]["Liver_STL011"]["misfit"] is None
    other = shared_data / "metdecode" / "atlas-with-rep.tsv"
    status, _, error = deconv("convert", liver, *arguments, "--atlas", other, "--build", "hg19")
    assert status == 2
    assert "another genome build than hg19" in error


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_killed_half_way_leaves_no_half_file(tmp_path, how):
    rng = np.random.default_rng(0)
    index = np.sort(rng.integers(1, 1_000_000, 300_000)).tolist()
    lines = "".join(f"chr1\t{i}\tCCTT\t1\n" for i in index)
    for name in "abcdefghijklmnop":  # some seconds of work
        (tmp_path / f"{name}.pat").write_text(lines)
    blocks = [f"chr1\t{100 * i}\t{100 * i + 50}\t{20 * i}\t{20 * i + 9}" for i in range(1, 40_000)]
    (tmp_path / "r.bed").write_text("\n".join(blocks))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "deconv", "convert", *map(str, sorted(tmp_path.glob("*.pat"))),
         "--regions", str(tmp_path / "r.bed"), "--build", "toy", "-o", str(out / "c.h5ad"),
         "--jobs", "2"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (out.is_dir() and any(out.glob(".deconv-unfinished-*/0"))):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(how)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0
    assert not (out / "c.h5ad").exists()
    if how == signal.SIGKILL:  # then it is the next one that removes what was put aside
        with staging_folder(out):
            pass
    else:
        assert "Traceback" not in error
    assert list(out.iterdir()) == []


def test_regions_of_another_build_are_not_lifted_over(tmp_path, make_counts):
    counts = make_counts()
    write_h5ad(counts, tmp_path / "a.h5ad")
    columns = counts.regions.columns()
    other = RegionSet.from_columns(columns, "hg19", "cpg")
    with pytest.raises(MismatchError, match=r"genome build differs .* not lifted over"):
        convert([tmp_path / "a.h5ad"], tmp_path, regions=other)
