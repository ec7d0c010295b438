"""What pydicom makes of the DICOM files that it ships, to compare with; docs/peers/dicom.md has the commands.

    dicom.py OUT

writes OUT/files.jsonl, one line per file: its path, the name of its transfer syntax, and either why pydicom gives no
pixels or the pixels as OUT/N.npy, float64 from 0 (black) to 1 (white): [frames, rows, columns, 1 or 3]. Nothing but
pixels, sizes and transfer syntaxes is written.
"""

import json
import logging
import sys
import warnings
from pathlib import Path

import numpy
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)


def padding(stored, data):
    """Which stored values are padding; pydicom leaves those to its callers."""
    value = data.get("PixelPaddingValue")
    if value is None or not isinstance(value, int):
        return numpy.zeros(stored.shape, bool)
    bits = data.BitsAllocated
    if data.PixelRepresentation == 1 and value >= 1 << (bits - 1):
        value -= 1 << bits
    limit = data.get("PixelPaddingRangeLimit", value)
    return (stored >= min(value, limit)) & (stored <= max(value, limit))


def grey(stored, data):
    rescaled = apply_modality_lut(stored, data).astype(numpy.float64)
    bits, signed = data.BitsStored, data.PixelRepresentation == 1
    ends = numpy.array([-(1 << (bits - 1)), (1 << (bits - 1)) - 1] if signed else [0, (1 << bits) - 1])
    ends = apply_modality_lut(ends, data).astype(numpy.float64)
    black, white = ends.min(), ends.max()
    windowed = "WindowCenter" in data and "WindowWidth" in data
    if windowed or "VOILUTSequence" in data:
        shown = apply_voi_lut(rescaled if windowed else apply_modality_lut(stored, data), data, 0, prefer_lut=False)
        if not windowed:
            black, white = 0, (1 << data.VOILUTSequence[0].LUTDescriptor[2]) - 1
        shown = (shown - black) / (white - black)
    else:
        shown = (rescaled - black) / (white - black)
    if data.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return numpy.where(padding(stored, data), 0, shown)


def colour(stored, data):
    if data.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, data)
        return stored / numpy.iinfo(stored.dtype).max
    return stored / ((1 << data.BitsStored) - 1)


def pixels(path, data):
    stored = pixel_array(path) if data.get("SamplesPerPixel") != 3 else pixel_array(path, raw=False)
    is_colour = data.SamplesPerPixel == 3 or data.PhotometricInterpretation == "PALETTE COLOR"
    shown = (colour if is_colour else grey)(stored, data)
    return shown.reshape(-1, data.Rows, data.Columns, 3 if is_colour else 1)


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    root = Path(pydicom.__file__).parent / "data" / "test_files"
    with open(out / "files.jsonl", "w") as lines:
        for number, path in enumerate(sorted(p for p in root.rglob("*") if p.is_file())):
            entry = {"name": path.relative_to(root).as_posix(), "path": str(path), "syntax": "", "refused": None}
            try:
                data = pydicom.dcmread(path, force=True)
                syntax = getattr(data, "file_meta", {}).get("TransferSyntaxUID")
                entry["syntax"] = str(getattr(syntax, "name", syntax or ""))
                if "PixelData" not in data:
                    entry["refused"] = "no pixel data"
                else:
                    numpy.save(out / f"{number}.npy", pixels(path, data).astype(numpy.float64))
                    entry["pixels"] = f"{number}.npy"
            except Exception as error:  # whatever pydicom cannot read is part of the result
                entry["refused"] = type(error).__name__
            lines.write(json.dumps(entry) + "\n")


main()
