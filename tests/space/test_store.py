"""Spaces as files: the presets are the papers', what a user writes is read back, and what cannot be is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from netadapt_trt.errors import FileFormatError, SpecError, TooNewError
from netadapt_trt.space.schema import Block, Space, Stage, Stem
from netadapt_trt.space.store import load_space, preset_names, save_space, space_from_json, space_hash, space_to_json

if TYPE_CHECKING:
    from pathlib import Path


def small() -> Space:
    return Space(
        name="small",
        input_shape=(3, 8, 8),
        num_classes=4,
        stem=Stem(channels=4, stride=1),
        stages=(Stage(4, 2, 1), Stage(8, 1, 2)),
        blocks=(Block("a", 3, 1), Block("b", 5, 2, 2)),
        head_channels=16,
    )


def test_the_cifar_space_is_fbnets() -> None:
    space = load_space("fbnet-cifar")
    assert space.columns == ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
    assert [(block.kernel, block.expansion, block.groups) for block in space.blocks] == [
        (3, 1, 1), (3, 1, 2), (3, 3, 1), (3, 6, 1), (5, 1, 1), (5, 1, 2), (5, 3, 1), (5, 6, 1),
    ]  # fmt: skip
    assert space.stem == Stem(channels=16, kernel=3, stride=2)
    assert [stage.channels for stage in space.stages] == [16, 24, 32, 64, 112, 184, 352]
    assert [stage.repeats for stage in space.stages] == [1, 4, 4, 4, 4, 4, 1]
    assert [stage.stride for stage in space.stages] == [1, 2, 2, 1, 1, 1, 1]
    assert (space.head_channels, space.num_classes, space.input_shape, space.batch_norm) == (1984, 10, (3, 32, 32), True)
    places = space.places
    assert len(places) == 22
    # HANNA's energies of skip are 0 in these layers: the first of every stage.
    assert [place.number for place in places if len(place.candidates) == 8] == [1, 2, 6, 10, 14, 18, 22]
    assert [(place.height, place.stride) for place in places[:7]] == [
        (16, 1),
        (16, 2),
        (8, 1),
        (8, 1),
        (8, 1),
        (8, 2),
        (4, 1),
    ]


def test_the_imagenet_space_halves_other_stages() -> None:
    space = load_space("fbnet-imagenet")
    assert [stage.stride for stage in space.stages] == [1, 2, 2, 2, 1, 2, 1]
    assert (space.input_shape, space.num_classes, space.places[-1].height) == ((3, 224, 224), 1000, 7)


def test_presets_read_back_and_differ() -> None:
    hashes = set()
    for name in preset_names():
        space = load_space(name)
        assert space.name == name
        assert space_from_json(space_to_json(space)) == space
        hashes.add(space_hash(space))
    assert len(hashes) == len(preset_names()) >= 3


def test_a_saved_space_reads_back(tmp_path: Path) -> None:
    save_space(small(), tmp_path / "s.json")
    assert load_space(tmp_path / "s.json") == small()
    assert load_space(str(tmp_path / "s.json")) == small()


def test_the_hash_is_over_all_but_the_name() -> None:
    space = small()
    assert space_hash(replace(space, name="other")) == space_hash(space)
    assert len(space_hash(space)) == 16
    for change in (
        {"num_classes": 5},
        {"skip": False},
        {"batch_norm": False},
        {"blocks": space.blocks[::-1]},
        {"stages": (Stage(4, 3, 1), Stage(8, 1, 2))},
        {"stem": Stem(channels=4, stride=1, kernel=5)},
        {"input_shape": (3, 8, 10)},
        {"head_channels": 24},
    ):
        assert space_hash(replace(space, **change)) != space_hash(space), change


def test_what_is_left_out_has_a_default() -> None:
    content = space_to_json(small())
    del content["skip"], content["batch_norm"], content["stem"]["kernel"], content["blocks"][0]["groups"]
    assert space_from_json(content) == small()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "a b"}, "the name may hold"),
        ({"name": "../../etc"}, "the name may hold"),
        ({"blocks": []}, "it has no blocks"),
        ({"stages": []}, "it has no stages"),
        ({"num_classes": 0}, "num_classes is 0; it must be from 1"),
        ({"num_classes": 10**30}, "num_classes is 1000"),
        ({"input_shape": [3, 0, 8]}, "the input's height is 0"),
        ({"input_shape": [3, 8, 1000000]}, "the input's width is 1000000"),
        ({"head_channels": -1}, "head_channels is -1"),
        ({"stem": {"channels": 4, "kernel": 2}}, "stem.kernel is 2; an even kernel"),
        ({"blocks": [{"name": "a", "kernel": 4, "expansion": 1}]}, "the kernel of block a is 4; an even kernel"),
        ({"blocks": [{"name": "a", "kernel": 3, "expansion": 1}] * 2}, "two blocks are named 'a'"),
        ({"blocks": [{"name": "skip", "kernel": 3, "expansion": 1}]}, "means passing the input on"),
        ({"blocks": [{"name": "a+b", "kernel": 3, "expansion": 1}]}, "block name 'a\\+b'"),
        (
            {"blocks": [{"name": "a", "kernel": 3, "expansion": 1, "groups": 3}]},
            "block a has 3 groups, which do not divide the 4 input channels of layer 1",
        ),
        (
            {"stages": [{"channels": 4, "repeats": 1}, {"channels": 7, "repeats": 1}]},
            "block b has 2 groups, which do not divide the 7 output channels of layer 2",
        ),
        (
            {"stages": [{"channels": 4, "repeats": 1, "stride": 2}] * 4},
            "stage 4 has stride 2, but the picture there is 1x1 already and shrinks to nothing",
        ),
        ({"stages": [{"channels": 4, "repeats": 201}]}, "the repeats of stage 1 is 201"),
        ({"stages": [{"channels": 4, "repeats": 150}] * 2}, "300 searchable layers"),
        ({"stages": [{"channels": 65536, "repeats": 200}]}, "weights; at most"),
        ({"stages": [{"channels": 4, "repeats": 1, "stride": 9}]}, "the stride of stage 1 is 9"),
    ],
)
def test_a_space_that_cannot_be_built(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        space_from_json({**space_to_json(small()), **change})


def test_pictures_too_large_for_the_widest_block() -> None:
    space = replace(small(), input_shape=(3, 4096, 4096), blocks=(Block("a", 3, 64),))
    with pytest.raises(SpecError, match="in layer 1 the widest block makes 4,294,967,296 numbers"):
        space_from_json(space_to_json(space))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batchnorm": True}, "the key 'batchnorm' is unknown; did you mean 'batch_norm'"),
        ({"stem": {"channels": 4, "stridee": 1}}, "the key 'stridee' in stem is unknown; did you mean 'stride'"),
        ({"stages": [{"repeats": 1}]}, r"stages\[0\].channels is missing"),
        ({"stages": {"channels": 1}}, "stages must be a list"),
        ({"stages": [4]}, r"stages\[0\] must be an object, not 4"),
        (
            {"blocks": [{"name": "a", "kernel": 3, "expansion": 1.5}]},
            r"blocks\[0\].expansion must be a whole number, not 1.5",
        ),
        ({"num_classes": True}, "num_classes must be a whole number, not True"),
        ({"num_classes": "10"}, "num_classes must be a whole number, not '10'"),
        ({"input_shape": [3, 32]}, "input_shape has 2 sizes"),
        ({"skip": "no"}, "skip must be true or false, not 'no'"),
        ({"name": "a\u202eb"}, "name must be a printable text"),
        ({"name": None}, "name must be a printable text"),
        ({"blocks": [{}] * 1001}, "blocks must be a list of at most 1000"),
    ],
)
def test_a_file_that_is_no_space(change: dict[str, Any], words: str) -> None:
    with pytest.raises(FileFormatError, match=words):
        space_from_json({**space_to_json(small()), **change}, where="mine.json")


def test_every_missing_key_is_named() -> None:
    for key in ("name", "input_shape", "num_classes", "stem", "stages", "blocks", "head_channels"):
        content = space_to_json(small())
        del content[key]
        with pytest.raises(FileFormatError, match=f"{key} is missing"):
            space_from_json(content)


def test_unknown_names_and_hostile_files(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no search space 'fbnet-cifr'; did you mean fbnet-cifar"):
        load_space("fbnet-cifr")
    with pytest.raises(FileFormatError, match="does not exist"):
        load_space(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(FileFormatError, match="is not a netadapt-space file"):
        load_space(tmp_path / "bad.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(FileFormatError, match="is not a netadapt-space file"):
        load_space(tmp_path / "deep.json")
    (tmp_path / "large.json").write_text(" " * (1 << 20) + "{}")
    with pytest.raises(FileFormatError, match="is larger than"):
        load_space(tmp_path / "large.json")
    (tmp_path / "other.json").write_text(json.dumps({"format": "netadapt-plan", "version": 1}))
    with pytest.raises(FileFormatError, match="says format = 'netadapt-plan'"):
        load_space(tmp_path / "other.json")
    (tmp_path / "new.json").write_text(json.dumps({**space_to_json(small()), "version": 2}))
    with pytest.raises(TooNewError):
        load_space(tmp_path / "new.json")
    with pytest.raises(FileFormatError):
        load_space(tmp_path)  # a folder
