"""Oracle `nasbench301`: the surrogate benchmark NAS-Bench-301 (Siems et al., 2020), through the package of its authors.

Package and models are optional: the user installs them, and both are opened only in `setup`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffnag.errors import DataNotFound, UserError, in_a_line
from diffnag.io.files import cache_folder, data_folder
from diffnag.oracles.columns import Columns
from diffnag.search_spaces.darts.space import DARTS

if TYPE_CHECKING:
    from diffnag.arch import Arch
    from diffnag.protocols import SearchSpace

PACKAGE = "nasbench301"
TRUST = "DIFFNAG_TRUST_PICKLE"
"""Environment variable that allows to load the models, which are pickles."""
MODELS = tuple(Path(f"nb_models_{version}") / f"xgb_v{version}" for version in ("1.0", "0.9"))
"""Folders of the ensemble for accuracy in the authors' archives; the first one that exists is used."""
NOTE = "a surrogate of measured accuracies, not a benchmark result"


class NASBench301Oracle:
    """Estimated validation accuracy on CIFAR-10 after 100 epochs: the mean of the surrogate's ensemble, without added noise."""

    kind = "surrogate"
    _space: DARTS
    _folder: Path
    _model: Any
    _columns: Columns

    def setup(self, *, space: SearchSpace) -> None:
        """Open package and models.

        Raises `DataNotFound` for a space other than DARTS and if package or models are missing, `UserError` for models that are not
        trusted or cannot be read.
        """
        if not isinstance(space, DARTS):
            raise DataNotFound(f"oracle {PACKAGE!r} supports only the space 'darts', not {space.name!r}")
        try:
            package = import_module(PACKAGE)
        except ImportError as error:
            raise DataNotFound(
                f"oracle {PACKAGE!r} needs the package {PACKAGE}, which cannot be imported ({error}); "
                f"install it with pip install {PACKAGE}, together with the packages that its documentation lists"
            ) from error
        folder = _models()
        if os.environ.get(TRUST) != "1":
            raise UserError(
                f"the models in {folder} are pickles, which can run any code when they are loaded; if you trust their source, set ${TRUST}=1"
            )
        try:
            self._model = package.load_ensemble(str(folder))
        except Exception as error:  # pickles of other versions can fail in any way
            raise UserError(f"{folder} holds no readable models of {PACKAGE} ({in_a_line(error)})") from error
        self._space, self._folder = space, folder
        self._columns = Columns(PACKAGE, ["cifar10/val/100"])

    @property
    def available(self) -> Mapping[str, tuple[str, ...]]:
        """CIFAR-10 with its validation split."""
        return self._columns.available

    def query(self, arch: Arch, *, dataset: str, split: str, epochs: int | None = None) -> float:
        """Estimated accuracy in %; `UserError` for any other dataset, split or number of epochs."""
        self._columns.find(dataset, split, epochs)
        return float(self._model.predict(config=self._space.genotype(arch), representation="genotype", with_noise=False))

    def provenance(self) -> Mapping[str, str | float]:
        """Nature of the figures, versions, and a checksum of the models."""
        digest = hashlib.sha256()
        for path in sorted(self._folder.rglob("*surrogate_model.model")):
            digest.update(path.read_bytes())
        return {"note": NOTE, "models": self._folder.name, "package": metadata.version(PACKAGE), "sha256": digest.hexdigest()}


def _models() -> Path:
    """The folder of the models, in `$DIFFNAG_DATA` or the user cache; `DataNotFound` if it is in neither."""
    places = [folder for folder in (data_folder(), cache_folder()) if folder]
    if found := next((folder / models for models in MODELS for folder in places if (folder / models).is_dir()), None):
        return found
    raise DataNotFound(
        f"the models of {PACKAGE} are missing: unpack the authors' archive models_1.0.zip so that the folder {MODELS[0]} is in "
        f"$DIFFNAG_DATA or in {cache_folder()}"
    )
