"""Counts as a request states them, checked and deconvolved: one way for all that serve a model.

A request has the arrays ``methylated`` and ``coverage``, [samples, regions] in the region order of
the bundle, and parameters that say what they are: the genome build and what was counted (`cpg` if
nothing is said). Numbers are taken as they come, also as floats (JSON has one kind), so that a
fraction or NaN is refused and not rounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from deconv.bundle import Bundle
from deconv.counts import MAX_COUNT, RegionCounts
from deconv.errors import InputError, MismatchError
from deconv.genomes import known_build
from deconv.predictor import CERTAINTY_COLUMNS, Deconvolution, NetworkMethod
from deconv.quality import enough_observed, informative_regions, n_observed
from deconv.regions import UNKNOWN_BUILD, RegionSet
from deconv.reported import reported_table

ARRAYS = ("methylated", "coverage")
_NOT_STATED = {"build": UNKNOWN_BUILD, "feature": "cpg"}
PARAMS = tuple(_NOT_STATED)


@dataclass(frozen=True)
class Scored:
    """Samples of a request and what the model says of them; ``table`` as `Scorer.score`."""

    counts: RegionCounts
    result: Deconvolution
    table: pd.DataFrame


class Scorer:
    """The model of a bundle, ready for requests."""

    def __init__(self, bundle: Bundle) -> None:
        self.method = NetworkMethod(bundle.network, bundle.atlas, calibration=bundle.calibration)
        self.informative = informative_regions(bundle.atlas)
        self.regions = bundle.atlas.regions

    def score(
        self, inputs: Mapping[str, Any], params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Deconvolve samples, which are numbered from 0.

        Parameters
        ----------
        inputs
            ``methylated`` and ``coverage``, [samples, regions].
        params
            ``build`` and ``feature``, which must be those of the model.

        Returns
        -------
        A row per sample and tissue, see `deconv.reported`.

        Raises
        ------
        MismatchError
            If build or feature are not those of the model.
        InputError
            If an array is missing, of another shape, or not of counts, as `RegionCounts` says;
            or a sample has no coverage.
        """
        return self.analyse(inputs, params).table

    def analyse(
        self, inputs: Mapping[str, Any], params: Mapping[str, Any] | None = None
    ) -> Scored:
        """Do what `score` does, and return what it is made of, too."""
        stated = _NOT_STATED | dict(params or {})
        wanted = {"build": known_build(self.regions.build), "feature": self.regions.feature}
        stated["build"] = known_build(stated["build"])
        for name, what in (
            ("build", "the genome build differs"),
            ("feature", "the counts differ"),
        ):
            if stated[name] != wanted[name]:
                raise MismatchError(
                    f"{what} (state it as params.{name})", where="request",
                    got=stated[name], expected=wanted[name],
                )  # fmt: skip
        methylated, coverage = (_counts_of(inputs, name, self.regions) for name in ARRAYS)
        samples = pd.DataFrame(index=pd.RangeIndex(len(methylated), name="sample"))
        counts = RegionCounts(methylated, coverage, self.regions, samples)
        observed = n_observed(counts.coverage, self.informative)
        assessable = enough_observed(observed, self.informative.sum(axis=1))
        result = self.method.predict(counts)
        return Scored(counts, result, reported_table(result, samples.index, assessable))


def request_of(counts: RegionCounts) -> dict[str, Any]:
    """Return counts, at the regions of a model, as the JSON of a request for it."""
    arrays = {name: getattr(counts, name).tolist() for name in ARRAYS}
    return {"inputs": arrays, "params": _params_of(counts.regions)}


def example_of(regions: RegionSet) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return inputs and parameters of a request that a model of these regions answers."""
    coverage = np.ones((1, len(regions)))
    return {"methylated": np.zeros_like(coverage), "coverage": coverage}, _params_of(regions)


def signature_of(regions: RegionSet) -> ModelSignature:
    """Return what MLflow tells of requests and answers.

    Counts are declared as doubles: as integers, MLflow's server would cut off fractions before
    the model sees them, and proportions sent by mistake would all become 0.
    """
    counts: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype("float64"), (-1, len(regions)), name) for name in ARRAYS
    ]
    output: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.long, "sample"),
        ColSpec(DataType.string, "tissue"),
        ColSpec(DataType.double, "proportion", required=False),
        ColSpec(DataType.string, "call"),
        *(ColSpec(DataType.double, name, required=False) for name in CERTAINTY_COLUMNS),
    ]
    params = [ParamSpec(name, DataType.string, value) for name, value in _NOT_STATED.items()]
    return ModelSignature(Schema(counts), Schema(output), ParamSchema(params))


def _params_of(regions: RegionSet) -> dict[str, str]:
    return {name: getattr(regions, name) for name in _NOT_STATED}


def _counts_of(inputs: Mapping[str, Any], name: str, regions: RegionSet) -> np.ndarray:
    if name not in inputs:
        raise InputError("an array is missing", where="request", got=list(inputs), expected=name)
    array = np.asarray(inputs[name])
    if array.ndim != 2 or array.shape[1] != len(regions):
        raise InputError(
            f"{name} has another shape than samples x regions", where="request",
            got=array.shape, expected=f"(any, {len(regions)})",
        )  # fmt: skip
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name} is not of numbers", where="request", got=array.dtype)
    whole = (array >= 0) & (array <= MAX_COUNT)  # False for NaN, too
    if array.dtype.kind == "f":
        whole &= np.floor(array) == array
    if not whole.all():
        row, column = np.argwhere(~whole)[0]
        raise InputError(
            f"{name} is not a count ({int((~whole).sum())} time(s))",
            where=f"sample {row}, region {regions.names[column]}",
            got=array[row, column], expected=f"a whole number from 0 to {MAX_COUNT}",
        )  # fmt: skip
    return array.astype(np.int64)
