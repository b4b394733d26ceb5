"""OME-Zarr written by ome-zarr-py: the same voxels as in memory, whatever the chunks and store."""

import json

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.writer import write_image

from unet_pipeline.errors import CaseError
from unet_pipeline.phantoms import make_phantom
from unet_pipeline.storage.ledger import digest_object
from unet_pipeline.storage.store import Store
from unet_pipeline.storage.survey import survey
from unet_pipeline.volume.axes import Axes
from unet_pipeline.volume.decoding import read_volume
from unet_pipeline.volume.formats import reader_of
from unet_pipeline.volume.probe import probe_header

SPACING_MM = (1.5, 2.0, 3.0)
RAS = ("left-to-right", "posterior-to-anterior", "inferior-to-superior")
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def values():
    return make_phantom(0, (40, 30, 20), SPACING_MM).image_XYZ


def write(path, values_XYZ, *, version=FormatV05, unit="millimeter", orientation=None, **options):
    """Write an image as the field's own library does."""
    axes = [{"name": name, "type": "space", "unit": unit} for name in "zyx"]
    if unit is None:
        axes = [{"name": name, "type": "space"} for name in "zyx"]
    for axis, value in zip(reversed(axes), orientation or (), strict=False):
        axis["orientation"] = {"type": "anatomical", "value": value}
    transforms = [[{"type": "scale", "scale": list(SPACING_MM[::-1])},
                   {"type": "translation", "translation": [30.0, 20.0, 10.0]}]]  # fmt: skip
    form = version()
    root = zarr.open_group(str(path), mode="w", zarr_format=form.zarr_format)
    write_image(
        values_XYZ.T, root, scaler=None, axes=axes, fmt=form, coordinate_transformations=transforms,
        storage_options={"chunks": (8, 16, 16), **options},
    )  # fmt: skip
    return str(path)


def read(url, store=None, **more):
    return read_volume(store or Store(), url, role="image0", budget_bytes=10**9, **more)


def code_of(act):
    with pytest.raises(CaseError) as caught:
        act()
    return caught.value.code


@pytest.mark.parametrize("version", [FormatV05, FormatV04])
def test_voxels_and_place_are_those_that_were_written(tmp_path, values, version):
    url = write(tmp_path / "x.ome.zarr", values, version=version)
    found = read(url)
    np.testing.assert_array_equal(found.view.values(), values)
    expected = np.diag([*SPACING_MM, 1.0])
    expected[:3, 3] = 10, 20, 30
    np.testing.assert_array_equal(found.view.header.grid.affine, expected)
    assert [one.role for one in found.inputs] == ["image0", "image0.voxels"]
    assert [remark.code for remark in found.view.header.remarks] == ["orientation_assumed"]


@pytest.mark.parametrize(
    "codec",
    [
        {"compressors": None},
        {"compressors": zarr.codecs.GzipCodec()},
        {"compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]},
        {"compressors": zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle")},
        {"shards": (16, 32, 32)},
        {"filters": zarr.codecs.TransposeCodec(order=(2, 0, 1))},
        {"serializer": zarr.codecs.BytesCodec(endian="big")},
    ],
)
def test_chunks_in_any_usual_encoding(tmp_path, values, codec):
    array = zarr.create_array(
        str(tmp_path / "x.zarr/0"), shape=values.T.shape, dtype=values.dtype, chunks=(8, 16, 16),
        **codec,
    )  # fmt: skip
    array[:] = values.T
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": METADATA}}
    (tmp_path / "x.zarr/zarr.json").write_text(json.dumps(group))
    np.testing.assert_array_equal(read(str(tmp_path / "x.zarr")).view.values(), values)


METADATA = {
    "version": "0.5",
    "multiscales": [
        {
            "axes": [{"name": n, "type": "space", "unit": "millimeter"} for n in "zyx"],
            "datasets": [
                {
                    "path": "0",
                    "coordinateTransformations": [{"type": "scale", "scale": [3.0, 2.0, 1.5]}],
                }
            ],
        }
    ],
}


def test_a_volume_over_the_budget_is_read_block_by_block(tmp_path, values):
    url = write(tmp_path / "x.ome.zarr", values)
    small = read_volume(
        Store(), url, role="image0", budget_bytes=1000, scratch=str(tmp_path / "scratch")
    )
    assert small.view.kept is not None
    np.testing.assert_array_equal(small.view.values(), values)
    assert small.inputs == read(url).inputs


def test_the_digest_is_that_of_a_look_at_the_folder(tmp_path, values):
    store, url = Store(), write(tmp_path / "x.ome.zarr", values)
    urls = reader_of(url).objects(store, url, 0)
    now = {one.role.removeprefix("image0"): one.sha256 for one in read(url).inputs}
    assert now == {ending: digest_object(store, each) for ending, each in urls.items()}


def test_from_object_storage(s3, tmp_path, values):
    local = write(tmp_path / "x.ome.zarr", values)
    prefix = s3.bucket()
    for file in sorted((tmp_path / "x.ome.zarr").rglob("*")):
        if file.is_file():
            place = f"{prefix}/scans/x.ome.zarr/{file.relative_to(local)}"
            s3.store.write(place, file.read_bytes())
    url = f"{prefix}/scans/x.ome.zarr"
    for asked in (f"{prefix}/scans", url, f"{prefix}/scans/*.ome.zarr"):
        assert survey(s3.store, asked).files == (url,)
    found = read(url, s3.store)
    np.testing.assert_array_equal(found.view.values(), values)
    assert all(one.etag for one in found.inputs)
    assert [a.sha256 for a in found.inputs] == [b.sha256 for b in read(local).inputs]
    probe = probe_header(s3.store, url)
    s3.store.write(f"{url}/0/c/0/0/0", b"other")
    assert code_of(lambda: read(url, s3.store, versions=probe.versions)) == "input_changed"


def test_a_chunk_that_changes_meanwhile_is_found(tmp_path, values):
    url = write(tmp_path / "x.ome.zarr", values)
    probe = probe_header(Store(), url)
    chunk = tmp_path / "x.ome.zarr/0/c/0/0/0"
    chunk.write_bytes(chunk.read_bytes())
    assert code_of(lambda: read(url, versions=probe.versions)) == "input_changed"


@pytest.mark.parametrize(
    ("orientation", "signs"),
    [
        (RAS, [1, 1, 1]),
        (("right-to-left", "anterior-to-posterior", "inferior-to-superior"), [-1, -1, 1]),
    ],
)
def test_a_stated_orientation_is_followed(tmp_path, values, orientation, signs):
    url = write(tmp_path / "x.ome.zarr", values, orientation=orientation)
    header = probe_header(Store(), url).header
    np.testing.assert_array_equal(header.grid.affine[:3, :3], np.diag(SPACING_MM) * signs)
    assert header.remarks == ()


def test_units_become_millimetres(tmp_path, values):
    micro = probe_header(Store(), write(tmp_path / "a.zarr", values, unit="micrometer")).header
    assert micro.grid.spacing_mm == tuple(n * 1e-3 for n in SPACING_MM)
    none = probe_header(Store(), write(tmp_path / "b.zarr", values, unit=None)).header
    assert "unit_unknown" in {remark.code for remark in none.remarks}
    parsec = write(tmp_path / "c.zarr", values)
    edit(tmp_path / "c.zarr/zarr.json", '"millimeter"', '"parsec"')
    assert code_of(lambda: probe_header(Store(), parsec)) == "unit_unsupported"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_level_that_is_asked_for(tmp_path, values):
    place = tmp_path / "x.zarr"
    url = write(place, values)
    half = values[::2, ::2, ::2]
    zarr.create_array(str(place / "1"), data=half.T, chunks=(8, 8, 8))
    root = json.loads((place / "zarr.json").read_text())
    transform = {"type": "scale", "scale": [2 * n for n in SPACING_MM[::-1]]}
    levels = root["attributes"]["ome"]["multiscales"][0]["datasets"]
    levels.append({"path": "1", "coordinateTransformations": [transform]})
    (place / "zarr.json").write_text(json.dumps(root))
    coarse = read(url, axes=Axes(level=1)).view
    np.testing.assert_array_equal(coarse.values(), half)
    assert coarse.header.grid.spacing_mm == tuple(2 * n for n in SPACING_MM)
    assert code_of(lambda: read(url, axes=Axes(level=2))) == "level_missing"


def test_chunks_that_are_not_stored_hold_the_fill_value_and_are_told(tmp_path, values):
    url = write(tmp_path / "x.zarr", values)
    (tmp_path / "x.zarr/0/c/0/0/0").unlink()
    found = read(url).view
    expected = values.copy()
    expected[:16, :16, :8] = 0
    np.testing.assert_array_equal(found.values(), expected)
    assert "chunks_not_stored" in {remark.code for remark in found.header.remarks}
    for chunk in (tmp_path / "x.zarr/0/c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    assert code_of(lambda: probe_header(Store(), url)) == "file_truncated"


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        (None, "none"),
        (zarr.codecs.GzipCodec(), "gzip"),
        (zarr.codecs.ZstdCodec(), "zstd"),
        (zarr.codecs.BloscCodec(), "blosc"),
    ],
)
def test_a_chunk_that_is_cut_or_holds_another_size_is_refused(tmp_path, values, codec, name):
    url = write(tmp_path / "x.zarr", values, compressors=codec)
    chunk = tmp_path / "x.zarr/0/c/1/1/1"
    whole = chunk.read_bytes()
    other = write(tmp_path / "y.zarr", values, compressors=codec, chunks=(16, 32, 32))
    for data in (b"", whole[: len(whole) // 2], b"\xff" * 100,
                 (tmp_path / "y.zarr/0/c/0/0/0").read_bytes()):  # fmt: skip
        chunk.write_bytes(data)
        assert code_of(lambda: read(url)) in {"file_truncated", "file_corrupt"}, other


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('"zstd"', '"numcodecs.pickle"', "codec_unsupported"),
        ('"int16"', '"string"', "dtype_unsupported"),
    ],
)
def test_an_array_of_another_kind_is_refused_by_name(tmp_path, values, old, new, code):
    url = write(tmp_path / "x.zarr", values, compressors=zarr.codecs.ZstdCodec())
    place = tmp_path / "x.zarr/0/zarr.json"
    edit(place, old, new)
    assert code_of(lambda: probe_header(Store(), url)) == code


def test_an_array_that_claims_too_much_is_refused_before_it_is_read(tmp_path, values):
    url = write(tmp_path / "x.zarr", values)
    assert code_of(lambda: probe_header(Store(), url, most_bytes=1000)) == "volume_too_large"
    place = tmp_path / "x.zarr/0/zarr.json"
    found = json.loads(place.read_text())
    found["chunk_grid"]["configuration"]["chunk_shape"] = [2**15] * 3
    place.write_text(json.dumps(found))
    assert code_of(lambda: probe_header(Store(), url)) == "chunk_too_large"


def test_a_link_in_a_store_is_refused(tmp_path, values):
    folder = tmp_path / "scans"
    url = write(folder / "x.zarr", values)
    (tmp_path / "secret").write_bytes(b"secret")
    chunk = folder / "x.zarr/0/c/0/0/0"
    chunk.unlink()
    chunk.symlink_to(tmp_path / "secret")
    assert code_of(lambda: probe_header(Store(), url)) == "file_special"
    found = survey(Store(), str(folder))
    assert found.files == ()
    assert [file for file, _ in found.passed_over] == [url]


@pytest.mark.parametrize("name", [".", "x.ome.zarr", "*.ome.zarr"])
def test_a_store_is_one_file_of_a_listing(tmp_path, values, name):
    url = write(tmp_path / "x.ome.zarr", values)
    assert survey(Store(), str(tmp_path / name)).files == (url,)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


def places(value, path=()):
    """Return every place in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


@pytest.fixture(scope="module")
def sound(tmp_path_factory, values):
    place = tmp_path_factory.mktemp("hostile") / "x.zarr"
    write(place, values)
    return place, {
        name: json.loads((place / name).read_text()) for name in ("zarr.json", "0/zarr.json")
    }


@SETTINGS
@given(data=st.data())
def test_any_value_at_any_place_of_the_metadata_costs_the_case_at_most(sound, data):
    place, texts = sound
    name = data.draw(st.sampled_from(sorted(texts)))
    root = json.loads(json.dumps(texts[name]))
    path = data.draw(st.sampled_from([path for path in places(root) if path]))
    inner = root
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(any_json)
    (place / name).write_text(json.dumps(root))
    try:
        read_volume(Store(), str(place), role="image0", budget_bytes=10**7, most_bytes=10**7)
    except CaseError:
        pass
    finally:
        (place / name).write_text(json.dumps(texts[name]))


def test_what_is_no_image_is_refused(tmp_path):
    zarr.create_array(str(tmp_path / "x.zarr"), data=np.zeros((4, 4)))
    assert code_of(lambda: probe_header(Store(), str(tmp_path / "x.zarr"))) == "not_ome_zarr"
