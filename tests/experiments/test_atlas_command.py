"""`deconv atlas build` and `export`, and genome builds that files do not state."""

import json

import pytest

PURE = (
    "chrom\tstart\tend\tA-1_METH\tA-1_DEPTH\tB-1_METH\tB-1_DEPTH\n"
    "chr1\t1\t9\t1\t20\t13\t14\nchr1\t11\t19\t12\t20\t3\t14\n"
)
BUILD_NOTE = "the genome build is not known"
MEANS = (
    "chr\tstart\tend\tstartCpG\tendCpG\tA\tB\n"
    "chr1\t1\t90\t1\t5\t0.1\t1\nchr1\t95\t199\t6\t9\t1\tNA\n"
)


@pytest.fixture
def pure(store):
    (store / "pure.tsv").write_text(PURE)
    return store / "pure.tsv"


def refused(deconv, *arguments):
    status, _, error = deconv(*arguments)
    assert status == 2, error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def done(deconv, *arguments):
    status, output, error = deconv(*arguments)
    assert status == 0, error
    return output.replace("\n", " ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop: [A, B]", "map.yaml: the map leaves fewer than two tissues; got none"),
        ("drop: [A]", "map.yaml: the map leaves fewer than two tissues; got B"),
        ("merge: {All: [A, B]}", "map.yaml: the map leaves fewer than two tissues; got All"),
        ("merge: {'': [A]}", "map.yaml: not a map of tissues: merge: a new name is empty"),
        ("merge: {X: []}", "map.yaml: not a map of tissues: merge: nothing becomes X"),
    ],
)
@pytest.mark.parametrize("kind", ["donors", "means"])
@pytest.mark.parametrize("suffix", [".h5ad", ".tsv"])
def test_maps_that_leave_no_atlas(deconv, store, pure, kind, text, message, suffix):
    if kind == "means":
        pure.write_text(MEANS)
    (store / "map.yaml").write_text(text)
    command = ["atlas", "build", pure, "--map", "map.yaml", "-o", f"q{suffix}", "--build", "hg38"]
    assert message in refused(deconv, *command)
    assert not (store / f"q{suffix}").exists()


@pytest.mark.parametrize("suffix", [".h5ad", ".tsv"])
def test_one_tissue_is_no_atlas(deconv, store, pure, suffix):
    pure.write_text(PURE.replace("B-1", "A-2"))
    (store / "sheet.csv").write_text("sample,path,tissue\nA-1,pure.tsv,A\nA-2,pure.tsv,A\n")
    for path in ("pure.tsv", "sheet.csv"):
        error = refused(deconv, "atlas", "build", path, "-o", f"q{suffix}")
        assert f"{path}: an atlas needs two tissues or more; got A" in error
    assert not (store / f"q{suffix}").exists()


@pytest.mark.parametrize("name", ["chrom", "Start", "_rho", "target", "a\tb", 'a"b', " "])
def test_names_that_a_table_cannot_have(deconv, store, pure, name):
    pure.write_text(MEANS)
    tissue_map = {"merge": {name: ["A"]}}
    (store / "map.yaml").write_text(json.dumps(tissue_map))
    command = ["atlas", "build", pure, "--map", "map.yaml", "--build", "hg38", "-o"]
    error = refused(deconv, *command, "q.tsv")
    assert repr(name) in error or "a new name is empty" in error
    if name.strip():
        done(deconv, *command, "q.h5ad")
        assert repr(name) in refused(deconv, "atlas", "export", "q.h5ad", "-o", "r.tsv")
    assert not (store / "q.tsv").exists()
    assert not (store / "r.tsv").exists()


def test_means_without_coverage_become_samples(deconv, store):
    for i in range(2):
        (store / f"{i}.tsv").write_text(MEANS.replace("\tA\tB", f"\tA-{i}\tB-{i}"))
    (store / "sheet.csv").write_text(
        "sample,path,tissue\nA-0,0.tsv,A\nB-0,0.tsv,B\nA-1,1.tsv,A\nB-1,1.tsv,B\n"
    )
    command = ["atlas", "build", "sheet.csv", "--build", "hg38", "-o", "a.h5ad"]
    assert "--pseudo-coverage" in refused(deconv, *command)
    output = done(deconv, *command, "--pseudo-coverage", 30)
    assert "4 samples of 2 tissues" in output
    assert "1.tsv: means without coverage are taken as 30 observations" in output


def test_what_is_wrong_with_samples_of_an_atlas_is_said(deconv, store, pure):
    (store / "sheet.csv").write_text(
        "sample,path,tissue,conversion\nA-1,pure.tsv,x,0.8\nB-1,pure.tsv,y,0.999\n"
    )
    said = done(deconv, "atlas", "build", "sheet.csv", "-o", "a.h5ad")
    assert "error: A-1: " in said
    assert "B-1: " not in said


def test_donors_are_the_samples_where_nothing_is_said(deconv, store, pure):
    (store / "sheet.csv").write_text("sample,path,tissue\nA-1,pure.tsv,x\nB-1,pure.tsv,y\n")
    done(deconv, "convert", "sheet.csv", "-o", "s.h5ad")
    assert "2 samples of 2 tissues" in done(deconv, "atlas", "build", "s.h5ad", "-o", "a.tsv")
    assert '"donor": "B-1"' in (store / "a.tsv").read_text()


def test_samples_without_tissue_are_named_with_what_helps(deconv, pure):
    pure.write_text(PURE.replace("A-1", "one"))
    error = refused(deconv, "atlas", "build", pure, "-o", "a.h5ad")
    assert f"{pure}: no tissue in a sample name; got one" in error
    assert "--labels" in error


def test_a_stated_build_replaces_an_unknown_one(deconv, store, pure):
    assert BUILD_NOTE in done(deconv, "convert", pure, "-o", "u.h5ad")
    assert BUILD_NOTE not in done(deconv, "convert", pure, "--build", "hg38", "-o", "k.h5ad")
    done(deconv, "atlas", "build", pure, "-o", "ua.tsv")
    done(deconv, "atlas", "export", "ua.tsv", "-o", "ua.h5ad")
    model = ("--model", "m.h5ad", "-o", "p.csv")
    done(deconv, "atlas", "build", pure, "--build", "hg38", "-o", "m.h5ad")
    assert "--build" in refused(deconv, "predict", "u.h5ad", *model)
    done(deconv, "predict", "u.h5ad", *model, "--build", "GRCh38")
    done(deconv, "convert", "u.h5ad", "--build", "hg38", "-o", "c.h5ad")
    done(deconv, "predict", "c.h5ad", *model)
    for source in ("ua.tsv", "ua.h5ad"):
        for command in ("build", "export"):
            said = done(deconv, "atlas", command, source, "--build", "HG38", "-o", "x.tsv")
            assert "2 regions of hg38" in said
    assert "another genome build; got hg38" in refused(
        deconv, "atlas", "export", "x.tsv", "--build", "hg19", "-o", "y.tsv"
    )


def test_coordinates_are_compared_with_a_build_stated_later(deconv, store, pure):
    pure.write_text(PURE.replace("\t19\t", "\t248956423\t"))  # of hg19 only
    (store / "table.tsv").write_text(pure.read_text().replace("chr1\t1\t9", "odd\t1\t9"))
    done(deconv, "convert", "table.tsv", "-o", "u.h5ad")
    error = refused(deconv, "convert", "u.h5ad", "--build", "hg38", "-o", "k.h5ad")
    assert "u.h5ad: the coordinates are of another genome build than hg38" in error
    assert "taken to be hg19" in done(deconv, "convert", pure, "-o", "i.h5ad")


def test_a_model_of_unknown_build_takes_files_of_any_that_fits(deconv, store, pure):
    done(deconv, "atlas", "build", pure, "-o", "m.h5ad")
    done(deconv, "convert", pure, "--build", "hg38", "-o", "k.h5ad")
    for command in (["check"], ["predict", "-o", "p.csv"]):
        said = done(deconv, *command, "k.h5ad", "--model", "m.h5ad")
        assert "the model's genome build is not known; the file's is hg38" in said


def test_other_names_of_chromosomes_are_said(deconv, store, pure):
    done(deconv, "atlas", "build", pure, "-o", "m.h5ad")
    (store / "plain.tsv").write_text(PURE.replace("chr1", "1").replace("-1_", "-2_"))
    note = "plain.tsv: chromosome 1 of the file is taken as chr1 of the regions"
    for command in (["check"], ["predict", "-o", "p.csv"]):
        assert note in done(deconv, *command, "plain.tsv", "--model", "m.h5ad")
    assert note in done(deconv, "atlas", "build", pure, "plain.tsv", "-o", "both.h5ad")


def test_regions_of_an_atlas_of_means(deconv, store, pure):
    (store / "means.tsv").write_text(MEANS)
    done(deconv, "atlas", "build", "means.tsv", "--build", "hg38", "-o", "means.h5ad")
    done(deconv, "atlas", "export", "means.h5ad", "-o", "ours.tsv")
    (store / "s.cov").write_text("chr1\t5\t5\t50\t1\t1\nchr1\t100\t100\t100\t3\t0\n")
    for regions in ("means.h5ad", "ours.tsv"):
        said = done(deconv, "convert", "s.cov", "--regions", regions, "-o", "s.h5ad")
        assert f"{regions}: 2 regions of hg38" in said
        error = refused(
            deconv, "convert", "s.cov", "--regions", regions, "--build", "hg19", "-o", "s.h5ad"
        )
        assert f"{regions}: the regions are of another genome build" in error
