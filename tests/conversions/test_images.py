# SPDX-License-Identifier: Apache-2.0
"""Raw images of every usual encoding, mosaics in JPEG, orientation in the file, and CameraInfo of lenses."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_dml_ros.conversions import camera_model_from_msg, decoder_of, image_from_msg
from peft_dml_ros.conversions.images import ENCODINGS
from peft_dml_ros.core.camera_view import decode, decoded
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.health import poor_picture
from peft_dml_ros.core.params import HealthParams, InputParams, PerceptionParams, validated

HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id="cam")
HEIGHT, WIDTH = 48, 64
RGB = np.dstack(
    [
        np.tile(np.linspace(20, 230, WIDTH), (HEIGHT, 1)),
        np.tile(np.linspace(200, 40, HEIGHT)[:, None], (1, WIDTH)),
        np.full((HEIGHT, WIDTH), 90.0),
    ]
).astype(np.uint8)


def image(encoding, values, *, pad=0, step=None, big=False):
    rows = values.reshape(len(values), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, pad)))
    return SimpleNamespace(
        header=HEADER,
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        is_bigendian=big,
        step=rows.shape[1] if step is None else step,
        data=rows.reshape(-1).copy(),
    )


def mosaic(order):
    """The picture behind a colour filter, upper left 2 x 2 pixels by name."""
    raw = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, colour in enumerate(order):
        row, column = divmod(place, 2)
        raw[row::2, column::2] = RGB[row::2, column::2, "rgb".index(colour)]
    return raw


def packed(order):
    """YUV with colours shared by two pixels."""
    y, u, v = cv2.split(cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV))
    # Video levels, as OpenCV reads them back.
    y = (16 + y * (219 / 255)).astype(np.uint8)
    u, v = ((128 + (c.astype(float) - 128) * s).clip(0, 255).astype(np.uint8) for c, s in ((u, 1.02), (v, 0.8)))
    out = np.zeros((HEIGHT, WIDTH, 2), np.uint8)
    luma, chroma = (1, 0) if order == "uyvy" else (0, 1)
    out[..., luma] = y
    out[:, ::2, chroma], out[:, 1::2, chroma] = u[:, ::2], v[:, ::2]
    return out


def nv12():
    i420 = cv2.cvtColor(RGB, cv2.COLOR_RGB2YUV_I420)
    quarter = HEIGHT * WIDTH // 4
    flat = i420.reshape(-1)
    y, u, v = flat[: 4 * quarter], flat[4 * quarter : 5 * quarter], flat[5 * quarter :]
    return np.concatenate([y, np.stack([u, v], axis=1).reshape(-1)]).reshape(HEIGHT * 3 // 2, WIDTH)


def swapped(values):
    colour = values[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2)[..., ::-1]
    return np.concatenate([values[:HEIGHT], colour.reshape(HEIGHT // 2, WIDTH)])


@pytest.mark.parametrize("pad", [0, 10])
def test_nv24_gives_the_picture_of_nv12(pad):
    luma, colour = nv12()[:HEIGHT], nv12()[HEIGHT:].reshape(HEIGHT // 2, WIDTH // 2, 2)
    step, full = WIDTH + pad, colour.repeat(2, axis=0).repeat(2, axis=1).reshape(HEIGHT, 2 * WIDTH)
    raw = np.concatenate([np.pad(luma, ((0, 0), (0, pad))).ravel(), np.pad(full, ((0, 0), (0, 2 * pad))).ravel()])
    message = image("nv12", nv12())
    expected = image_from_msg(message).pixels
    message.encoding, message.step, message.data = "nv24", step, raw
    np.testing.assert_array_equal(image_from_msg(message).pixels, expected)


@pytest.mark.parametrize(
    ("encoding", "values", "off"),
    [
        ("rgb8", RGB, 0),
        ("8UC3", RGB[..., ::-1].copy(), 0),
        ("bgra8", np.dstack([RGB[..., ::-1], RGB[..., 0]]), 0),
        *((f"bayer_{o}8", mosaic(o), 8) for o in ("rggb", "bggr", "gbrg", "grbg")),
        *((f"bayer_{o}16", (mosaic(o).astype(np.uint16) << 8), 8) for o in ("rggb", "bggr", "gbrg", "grbg")),
        ("yuv422", packed("uyvy"), 24),
        ("uyvy", packed("uyvy"), 24),
        ("yuyv", packed("yuyv"), 24),
        ("yuv422_yuy2", packed("yuyv"), 24),
        ("nv12", nv12(), 12),
        ("nv21", swapped(nv12()), 12),
        ("bgra16", np.dstack([RGB[..., ::-1], RGB[..., 0]]).astype(np.uint16) << 8, 1),
        ("16UC3", RGB[..., ::-1].astype(np.uint16) << 8, 1),
        ("16UC4", np.dstack([RGB[..., ::-1], RGB[..., 0]]).astype(np.uint16) << 8, 1),
        ("rgba16", np.dstack([RGB, RGB[..., 0]]).astype(np.uint16) << 8, 1),
    ],
)
@pytest.mark.parametrize("pad", [0, 10])
def test_an_encoding_gives_the_picture(encoding, values, off, pad):
    """Reported: fhwedel-hoe/pylon_instant_camera 7."""
    pixels = image_from_msg(image(encoding, values, pad=pad)).pixels
    assert pixels.shape == RGB.shape
    # Mosaics have no colours of their own at the border.
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(pixels[inner].astype(int) - RGB[inner]).mean() <= off
    assert np.abs(pixels[inner].astype(int) - RGB[inner])[..., 0].mean() <= off + 4


@pytest.mark.parametrize(("bits", "big"), [(10, False), (12, True), (16, False)])
def test_mono16_takes_the_bits_that_are_used(bits, big):
    grey = np.tile(np.linspace(0, (1 << bits) - 1, WIDTH), (HEIGHT, 1)).astype(">u2" if big else "<u2")
    pixels = image_from_msg(image("mono16", grey, big=big)).pixels
    assert (pixels[..., 0] == pixels[..., 2]).all()
    assert (pixels[0, 0, 0], pixels[0, -1, 0]) == (0, 255)


def test_depths_are_refused_and_thermal_pictures_are_not():
    """REP 118: 16UC1 are mm; thermal cameras publish their grey values under it, too."""
    grey = np.tile(np.linspace(0, (1 << 14) - 1, WIDTH), (HEIGHT, 1)).astype("<u2")
    thermal = decoder_of("CAM_BACK", InputParams(thermal=("CAM_BACK",)))
    png = packed_png(grey, "16UC1; png compressed ")
    depth = SimpleNamespace(header=HEADER, format="16UC1; compressedDepth png", data=b"\0" * 12 + bytes(png.data))
    for message in (image("16UC1", grey), png, depth):
        with pytest.raises(
            DataError, match=r"frame 'cam' has encoding '16UC1.*depths in mm, expected a.*inputs\.thermal"
        ):
            decoder_of("CAM_BACK")(message)
    assert np.ptp(thermal(image("16UC1", grey)).pixels) == 255
    assert np.ptp(decoded(thermal(png), WIDTH)) == 255
    with pytest.raises(DataError, match="depths in mm"):
        thermal(depth)
    with pytest.raises(ConfigError, match=r"inputs.thermal: sensor 'CAM_BACC'.*CAM_BACK"):
        validated(PerceptionParams, {"inputs": {"thermal": ["CAM_BACC"]}}, "p.yaml")


def test_a_stale_step_gives_way_to_the_data_and_a_wrong_size_is_named():
    assert (image_from_msg(image("rgb8", RGB, step=0)).pixels == RGB).all()
    short = image("rgb8", RGB)
    short.data = short.data[:-1]
    with pytest.raises(DataError, match=r"'cam'.*64 x 48 rgb8 with step 192.*expected step 192 and 9216 bytes"):
        image_from_msg(short)
    with pytest.raises(DataError, match="encoding '32FC1', which is no picture"):
        image_from_msg(image("32FC1", RGB))


def compressed(pixels, kind="jpeg"):
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
    return SimpleNamespace(header=HEADER, format=kind, data=data)


def test_a_jpeg_of_a_mosaic_is_decoded_by_its_format():
    """Reported: image_transport_plugins 68."""
    picture = image_from_msg(compressed(mosaic("rggb"), "bayer_rggb8; jpeg compressed "))
    assert picture.mosaic == "rggb"
    pixels = decoded(picture, WIDTH)
    assert np.abs(pixels[2:-2, 2:-2].astype(int) - RGB[2:-2, 2:-2]).mean() < 8
    grey = image_from_msg(compressed(mosaic("rggb"), "mono8; jpeg compressed "))
    assert np.ptp(decoded(grey, WIDTH).astype(int), axis=2).max() == 0
    # image_transport converts to colour before it compresses, and names the mosaic all the same.
    colour = image_from_msg(compressed(RGB[..., ::-1], "bayer_rggb8; jpeg compressed bgr8"))
    assert colour.mosaic == ""
    assert np.abs(decoded(colour, WIDTH).astype(int) - RGB).mean() < 8


def packed_png(pixels, kind):
    return SimpleNamespace(header=HEADER, format=kind, data=cv2.imencode(".png", pixels)[1])


def test_a_png_of_a_mosaic_and_one_of_16_bits():
    mosaiced = image_from_msg(packed_png(mosaic("gbrg"), "bayer_gbrg8; png compressed "))
    assert mosaiced.mosaic == "gbrg"
    assert np.abs(decoded(mosaiced, WIDTH)[2:-2, 2:-2].astype(int) - RGB[2:-2, 2:-2]).mean() < 8
    # A camera of 12 bits: divided by 256, as OpenCV does it, the picture would be almost black.
    deep = mosaic("rggb").astype(np.uint16) << 4
    grey = image_from_msg(packed_png(deep, "mono16; png compressed "))
    for width in (WIDTH, WIDTH // 4):
        pixels = decoded(grey, width)
        assert pixels.shape == (HEIGHT * width // WIDTH, width, 3)
        assert abs(pixels.mean() - mosaic("rggb").mean()) < 3
    assert poor_picture(grey, HealthParams()) is None
    coloured = decoded(image_from_msg(packed_png(deep, "bayer_rggb16; png compressed ")), WIDTH)
    assert np.abs(coloured[2:-2, 2:-2].astype(int) - RGB[2:-2, 2:-2]).mean() < 8


def test_what_is_neither_jpeg_nor_png_is_named_with_its_format():
    message = SimpleNamespace(header=HEADER, format="h264", data=np.frombuffer(b"\0\0\0\1gB\0\x1f", np.uint8))
    with pytest.raises(DataError, match=r"'cam' of format 'h264' is neither.*begin with 00 00 00 01 67.*fix: publish"):
        image_from_msg(message)


def test_the_orientation_in_a_file_is_ignored(monkeypatch):
    """Found on real sensors: a JPEG of 640 x 480 with EXIF orientation 6 had two shapes by two decoders."""
    data = bytes(compressed(RGB[..., ::-1]).data)
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    exif = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
    turned = data[:2] + exif + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (WIDTH, HEIGHT)
    assert decode(turned, WIDTH).shape[:2] == (HEIGHT, WIDTH)
    monkeypatch.setattr("peft_dml_ros.core.jpeg.simplejpeg", None)
    np.testing.assert_allclose(decode(turned, WIDTH), decode(data, WIDTH))


def info(model="plumb_bob", d=(), k=(600.0, 600.0, 320.0, 240.0), p=None, **other):
    fx, fy, cx, cy = k
    a, b, c, e = p or k
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    fields = {"width": 640, "height": 480, "binning_x": 0, "binning_y": 0, "roi": roi} | other
    return SimpleNamespace(
        header=HEADER,
        distortion_model=model,
        d=np.array(d),
        k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0]),
        p=np.array([a, 0, c, 0, 0, b, e, 0, 0, 0, 1.0, 0]),
        **fields,
    )


def test_camera_info_of_a_lens():
    """Reported: ros2_calib 6, isaac_ros_apriltag 22 (`equidistant` with P = K, taken for a pinhole)."""
    assert camera_model_from_msg(info()).lens is None
    fisheye = camera_model_from_msg(info("equidistant", (0.1, 0.01, 0.0, 0.0)))
    assert fisheye.lens.model == "equidistant"
    assert camera_model_from_msg(info("equidistant", (0.1, 0.01, 0.0, 0.0)), rectified=True).lens is None
    narrow = camera_model_from_msg(info("rational_polynomial", np.arange(8) * 1e-3, p=(500, 500, 310, 230)))
    assert (narrow.intrinsics[0, 0], narrow.lens.intrinsics[0, 0]) == (500, 600)
    # Rectified images have P, also where the driver leaves the distortion out.
    assert camera_model_from_msg(info(p=(500, 500, 310, 230)), rectified=True).intrinsics[0].tolist() == [500, 0, 310]
    assert camera_model_from_msg(info(p=(500, 500, 310, 230))).intrinsics[0].tolist() == [600, 0, 320]
    with pytest.raises(DataError, match=r"lens model .omni. is unknown.*rectified images"):
        camera_model_from_msg(info("omni", (1.0,)))
    with pytest.raises(DataError, match=r"equidistant.*expected 4"):
        camera_model_from_msg(info("equidistant", (0.1, 0.1, 0.1, 0.1, 0.1)))
    with pytest.raises(DataError, match=r"plumb_bob.*expected 4 or 5.*fix: .*rational_polynomial: 8/12/14"):
        camera_model_from_msg(info("plumb_bob", (0.1,) * 8))
    with pytest.raises(DataError, match=r"not calibrated: K.*fix: calibrate it"):
        camera_model_from_msg(info(k=(0.0, 0.0, 0.0, 0.0)))


@settings(max_examples=150)
@given(
    encoding=st.sampled_from([*ENCODINGS, "32FC1", "", "yuv"]),
    height=st.integers(-1, 9),
    width=st.integers(-1, 9),
    step=st.integers(-1, 40),
    data=st.binary(max_size=300),
    big=st.booleans(),
)
def test_any_image_is_read_or_refused(encoding, height, width, step, data, big):
    message = SimpleNamespace(
        header=HEADER, encoding=encoding, height=height, width=width, step=step, data=data, is_bigendian=big
    )
    try:
        pixels = image_from_msg(message).pixels
    except DataError:
        return
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8


@settings(max_examples=100)
@given(
    model=st.sampled_from(["plumb_bob", "rational_polynomial", "equidistant", "", "omni"]),
    d=st.lists(st.floats(width=32), max_size=15),
    k=st.lists(st.floats(width=32), min_size=9, max_size=9),
    size=st.tuples(st.integers(0, 5000), st.integers(0, 5000)),
    binning=st.integers(0, 8),
)
def test_any_camera_info_is_read_or_refused(model, d, k, size, binning):
    message = info(model, d, width=size[0], height=size[1], binning_x=binning, binning_y=binning)
    message.k = np.array(k)
    try:
        camera = camera_model_from_msg(message)
    except DataError:
        return
    assert np.isfinite(camera.intrinsics).all()
    assert camera.lens is None or np.isfinite(camera.lens.coefficients).all()
