"""Open a data set by its name: ``digits``, ``imagefolder:DIR``, ``cifar10:DIR``, ``cifar100:DIR``, ``fashion-mnist:DIR``,
or ``package.module:factory`` / ``path/file.py:factory``. Nothing is ever downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from netadapt_trt.errors import DataError, SpecError
from netadapt_trt.progress import QUIET
from netadapt_trt.training.archives import read_cifar, read_fashion_mnist
from netadapt_trt.training.holdout import holdout
from netadapt_trt.training.image_folder import image_folder
from netadapt_trt.training.preprocessing import Preprocessing, normalization
from netadapt_trt.training.split import DataSet, MemoryStore, Split
from netadapt_trt.zoo.resolve import load_factory, nearest

if TYPE_CHECKING:
    from netadapt_trt.progress import Progress
    from netadapt_trt.training.archives import Images

__all__ = ["DATA_SPECS", "DataSet", "Preprocessing", "Split", "default_normalization", "holdout", "open_data"]

DATA_SPECS = ("digits", "imagefolder:DIR", "cifar10:DIR", "cifar100:DIR", "fashion-mnist:DIR", "package.module:factory")
_SCHEMES = tuple(text.partition(":")[0] for text in DATA_SPECS[:-1])
_DEFAULT_NORMALIZATION = {"imagefolder": "imagenet"}
_KEEP_MORE_BELOW = 160  # pixels; larger pictures show their subject in the middle 7/8, small ones fill the frame
_DIGITS_TEST_SHARE = 0.2


def open_data(
    spec: str,
    *,
    input_shape: tuple[int, ...],
    image_size: int | None = None,
    normalize: str | None = None,
    progress: Progress = QUIET,
) -> DataSet:
    """The data set that ``spec`` names, made to fit a network's ``input_shape`` (N, C, H, W).

    Raises:
        SpecError: unknown name (with the nearest), a size or normalisation that does not fit.
        DataError: a directory that is missing, empty or malformed, naming the file.
    """
    scheme, _, rest = spec.partition(":")
    if scheme not in _SCHEMES:
        if not rest:
            raise SpecError(f"unknown data {spec!r}; {nearest(spec, _SCHEMES)}; forms: {', '.join(DATA_SPECS)}")
        return _from_factory(spec, input_shape, normalize)
    if (scheme == "digits") == bool(rest):
        raise SpecError(f"data {spec!r}: write {next(text for text in DATA_SPECS if text.startswith(scheme))}")
    preprocessing = _picture_preprocessing(scheme, input_shape, image_size, normalize)
    if scheme == "digits":
        return _in_memory(spec, *_digits(), preprocessing, flip=False)
    directory = Path(rest).expanduser()
    if not directory.is_dir():
        raise DataError(f"data {spec!r}: there is no directory {directory}")
    if scheme == "imagefolder":
        return image_folder(directory, preprocessing, progress=progress)
    if scheme == "fashion-mnist":
        return _in_memory(spec, *read_fashion_mnist(directory), preprocessing, flip=True)
    return _in_memory(spec, *read_cifar(directory, 10 if scheme == "cifar10" else 100), preprocessing, flip=True)


def default_normalization(spec: str) -> str | None:
    """The normalisation of a known data set where nobody asks for another; None for a factory, which decides by itself."""
    scheme = spec.partition(":")[0]
    return _DEFAULT_NORMALIZATION.get(scheme, scheme) if scheme in _SCHEMES else None


def _picture_preprocessing(
    scheme: str, input_shape: tuple[int, ...], image_size: int | None, normalize: str | None
) -> Preprocessing:
    shape = "x".join(map(str, input_shape))
    if len(input_shape) != 4 or input_shape[1] not in (1, 3) or input_shape[2] != input_shape[3]:
        raise SpecError(
            f"data {scheme!r} has square grey or colour pictures, the network's input is {shape}; use module:factory"
        )
    if image_size is not None and image_size != input_shape[2]:
        raise SpecError(f"pictures of size {image_size} do not fit the network's input {shape}; give the same size to both")
    size, channels = input_shape[2], input_shape[1]
    mean, std = normalization(normalize or default_normalization(scheme) or "none", channels)
    crop = 1.0 if scheme != "imagefolder" or size < _KEEP_MORE_BELOW else 0.875
    return Preprocessing(image_size=size, mean=mean, std=std, channels=channels, crop=crop)


def _in_memory(
    spec: str, train: Images, test: Images, classes: tuple[str, ...], preprocessing: Preprocessing, *, flip: bool
) -> DataSet:
    def split(images: Images) -> Split:
        store = MemoryStore(
            _fitted(torch.from_numpy(images[0]), preprocessing), preprocessing.image_size, preprocessing.channels
        )
        return Split(store, images[1], np.arange(len(images[1])), preprocessing, flip)

    return DataSet(spec, split(train), split(test), classes, preprocessing)


def _fitted(values: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    if values.shape[1] == 3 and preprocessing.channels == 1:  # colour into a grey network, luma weights of ITU-R BT.601
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (values.float() * weights).sum(1, keepdim=True).round_().to(torch.uint8)
    return values


def _digits() -> tuple[Images, Images, tuple[str, ...]]:
    """scikit-learn's 1,797 grey 8x8 digits; every fifth of a class, in a fixed shuffled order, is for testing."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError("data 'digits' comes with scikit-learn, which is not installed; pip install scikit-learn") from error
    values, labels = load_digits(return_X_y=True)
    pictures = np.rint(values.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = labels.astype(np.int64)
    test = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng(0)
    for label in range(10):
        members = generator.permutation(np.flatnonzero(labels == label))
        test[members[: round(len(members) * _DIGITS_TEST_SHARE)]] = True
    names = tuple(str(label) for label in range(10))
    return (pictures[~test], labels[~test]), (pictures[test], labels[test]), names


def _from_factory(spec: str, input_shape: tuple[int, ...], normalize: str | None) -> DataSet:
    made = load_factory(spec, what="data", forms=DATA_SPECS[:-1])()
    if isinstance(made, DataSet):
        own = made.preprocessing
        if normalize is not None and normalization(normalize, own.channels) != (own.mean, own.std):
            raise SpecError(f"data {spec!r} is a DataSet, which brings its own normalisation; leave --normalize out")
        return made
    try:
        (train_values, train_labels), (test_values, test_labels) = made
    except (TypeError, ValueError) as error:
        raise DataError(
            f"data {spec!r} returned a {type(made).__name__}; it must return a DataSet or "
            f"((inputs, labels), (inputs, labels)), for training and for testing"
        ) from error
    channels = input_shape[1] if len(input_shape) > 1 else 1
    mean, std = normalization(normalize or "none", channels)
    preprocessing = Preprocessing(image_size=None, mean=mean, std=std, channels=channels)
    train = _array_split(spec, train_values, train_labels, input_shape, preprocessing)
    test = _array_split(spec, test_values, test_labels, input_shape, preprocessing)
    classes = tuple(str(label) for label in range(int(max(train.labels.max(), test.labels.max())) + 1))
    return DataSet(spec, train, test, classes, preprocessing)


def _array_split(spec: str, values: Any, labels: Any, input_shape: tuple[int, ...], preprocessing: Preprocessing) -> Split:
    tensor = torch.as_tensor(values)
    numbers = np.asarray(labels)
    if tuple(tensor.shape[1:]) != tuple(input_shape[1:]):
        found, wanted = "x".join(map(str, tensor.shape)), "x".join(map(str, input_shape))
        raise DataError(f"data {spec!r}: inputs of {found} do not fit the network's input {wanted}")
    if numbers.shape != (len(tensor),) or not len(tensor) or numbers.dtype.kind not in "iu" or numbers.min() < 0:
        raise DataError(f"data {spec!r}: one class number from 0 on is needed for each of the {len(tensor)} inputs")
    if tensor.dtype != torch.uint8:
        tensor = tensor.float()
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"data {spec!r}: inputs hold values that are not finite")
    return Split(MemoryStore(tensor), numbers.astype(np.int64), np.arange(len(tensor)), preprocessing, flip=False)
