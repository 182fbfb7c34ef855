"""Oracle `hw-gpt-bench`: perplexities of language models as the surrogate of HW-GPT-Bench estimates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from diffnag.oracles.columns import Columns
from diffnag.search_spaces.gpt.surrogate import NOTE, Surrogates

if TYPE_CHECKING:
    import numpy as np

    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace


class HWGPTBenchOracle:
    """Estimated perplexity on OpenWebText's validation part, lower being better.

    There is no split `test`: the benchmark has one perplexity of a model, and to report the figure that was searched by as a test result
    would be wrong. The number of epochs is 0, as the models were not trained by themselves: they share the weights of a supernet.
    """

    kind = "surrogate"
    _surrogates: Surrogates
    _columns: Columns

    def setup(self, *, space: SearchSpace) -> None:
        """Read the surrogates; raises `DataNotFound` for other spaces and without a file, `UserError` for a damaged file."""
        self._surrogates = Surrogates.of(space, asked_by="oracle 'hw-gpt-bench'")
        self._columns = Columns("surrogate", [f"{dataset}/val/0" for dataset in space.datasets])

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """OpenWebText with its validation split."""
        return self._columns.available

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """Estimated perplexity; `UserError` for any other dataset, split or number of epochs."""
        self._columns.find(dataset, split, epochs)
        return float(self.predict_many([arch])[0])

    def predict_many(self, archs: Sequence[Arch]) -> np.ndarray:
        """Estimated perplexities of many architectures, float64 `(b,)`."""
        return self._surrogates.predict("perplexity", archs)

    def provenance(self) -> Mapping[str, str | float]:
        """Nature of the figures, and the checksum of the file."""
        return {"note": NOTE, "sha256": self._surrogates.sha256}
