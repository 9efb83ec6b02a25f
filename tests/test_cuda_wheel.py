"""CuPy's own wheel, without a GPU: every kernel through NVRTC, every name that the backend uses, what it says.

The emulator of a GPU shows that kernels compute what they should; that NVIDIA's compiler takes them, in how many
registers, and that CuPy has what is called, is seen here. ``nox -s kernels`` installs what it takes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("cupy") is None or find_spec("cuda_emulator") is not None:
    pytest.skip(
        "needs CuPy's own wheel and NVRTC, not an emulator: nox -s kernels", allow_module_level=True
    )

BACKEND = Path(__file__).parents[1] / "backends" / "tinyxp_cupy"
ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
FILES = sorted(p.stem for p in (BACKEND / "_cuda").glob("*.cu"))

# ---------------------------------------------------------------- kernels
REGISTERS = 128
REGISTERS_OF = {"attention": 255}  # its blocks are small, and hold their tiles in registers
STATIC_SHARED = 48 << 10  # bytes that a block can have without asking
LARGEST_BLOCK = 1024  # threads
AS_CUPY = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy adds to the options
REGISTER_FILE = 64 << 10  # of a multiprocessor: a block that needs more does not start


def include_folder():
    """The folder of cuda_fp16.h: of NVIDIA's wheels, or of the toolkit."""
    found = find_spec("nvidia")
    wheels = [Path(p) for p in (found.submodule_search_locations if found else ())]
    folders = [*(p / "cu13" / "include" for p in wheels), Path("/usr/local/cuda/include")]
    return next((p for p in folders if (p / "cuda_fp16.h").is_file()), None)


def types_of(file):
    """The types of elements that a source is compiled for: pairs where it knows a second one."""
    from tinyxp_cupy import _modules

    text = (BACKEND / "_cuda" / f"{file}.cu").read_text(encoding="utf-8")
    alone = [(t, None) for t in _modules.TYPES]
    if not re.search(r"\bU\b", text):
        return alone
    halves = [t for t in _modules.TYPES if t != "float32"]  # the two of them never meet
    return [*alone, *((h, "float32") for h in halves), *(("float32", h) for h in halves)]


@cache
def compiled(file, types, architecture):
    """What NVRTC makes of a source, and what it tells of it: the PTX and the log."""
    from cupy_backends.cuda.libs import nvrtc

    from tinyxp_cupy import _modules

    options = (*_modules.options(*types), f"-arch={architecture}", f"-I{include_folder()}")
    program = nvrtc.createProgram(_modules.source(file), f"{file}.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*options, *AS_CUPY, "--ptxas-options=-v"))
    except nvrtc.NVRTCError:
        pytest.fail(nvrtc.getProgramLog(program))
    return nvrtc.getPTX(program).decode(errors="replace"), nvrtc.getProgramLog(program)


def figures(log):
    """By kernel: its registers, spilled bytes, and bytes of static shared memory."""
    found = {}
    for part in log.split("Compiling entry function ")[1:]:
        name = part.split("'")[1]
        spills = sum(map(int, re.findall(r"(\d+) bytes spill", part)))
        used = re.search(r"Used (\d+) registers", part)
        shared = re.search(r"(\d+) bytes smem", part)
        found[name] = int(used[1]), spills, int(shared[1]) if shared else 0
    return found


def largest_blocks(ptx):
    """By kernel: the threads of a block that it promises not to exceed, where it does."""
    found = {}
    for name, rest in re.findall(r"\.entry (\w+)\(.*?\)(.*?)\{", ptx, re.DOTALL):
        promised = re.search(r"\.maxntid (\d+)", rest)
        found[name] = int(promised[1]) if promised else LARGEST_BLOCK
    return found


def kernels_in(file):
    """The names that a source gives to its kernels, macros aside."""
    text = (BACKEND / "_cuda" / f"{file}.cu").read_text(encoding="utf-8").replace("\\\n", " ")
    text = re.sub(r"^ *#define.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"__launch_bounds__\((?:[^()]|\([^()]*\))*\)", "", text)
    return set(re.findall(r"__global__\s+void\s+(\w+)\s*\(", text))


needs_headers = pytest.mark.skipif(
    include_folder() is None, reason="no cuda_fp16.h: pip install 'nvidia-cuda-runtime==13.0.*'"
)


@needs_headers
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_kernels_compile_into_what_a_gpu_has(file, architecture):
    faults, seen = [], set()
    for types in types_of(file):
        ptx, log = compiled(file, types, architecture)
        blocks = largest_blocks(ptx)
        for name, (registers, spills, shared) in figures(log).items():
            seen.add(name)
            what = f"{name} for {types}: {registers} registers, {spills} bytes spilled, {shared} shared"
            if spills or shared > STATIC_SHARED or registers > REGISTERS_OF.get(file, REGISTERS):
                faults.append(what)
            if registers * blocks[name] > REGISTER_FILE:
                faults.append(f"{what}: too many for blocks of {blocks[name]}: __launch_bounds__")
    assert faults == []
    assert seen
    assert kernels_in(file) <= seen


def test_the_compilers_report_is_understood():
    log = (
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function 'good' for 'sm_90'\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 25 registers, used 1 barriers, 48 bytes smem, 372 bytes cmem[0]\n"
        "ptxas info    : Compiling entry function 'bad' for 'sm_90'\n"
        "    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n"
        "ptxas info    : Used 255 registers, 372 bytes cmem[0]\n"
    )
    assert figures(log) == {"good": (25, 0, 48), "bad": (255, 12, 0)}
    ptx = ".visible .entry a(\n.param .u64 p\n)\n.maxntid 256\n{\n}\n.visible .entry b(\n)\n{\n}"
    assert largest_blocks(ptx) == {"a": 256, "b": LARGEST_BLOCK}


@needs_headers
def test_a_kernel_that_spills_is_seen():
    from cupy_backends.cuda.libs import nvrtc

    values = ", ".join(f"x[{i}]" for i in range(96))
    source = f"""extern "C" __global__ void __launch_bounds__(1024, 2) spilling(float* x, int n) {{
        float v[] = {{{values}}};
        __syncthreads();
        for (int k = 0; k < n; ++k) {{ for (int i = 0; i < 96; ++i) v[i] = v[i] * v[(i + 1) % 96] + k; }}
        for (int i = 0; i < 96; ++i) x[i] = v[i];
    }}"""
    program = nvrtc.createProgram(source, "spilling.cu", (), ())
    nvrtc.compileProgram(program, ("-arch=sm_90", "--ptxas-options=-v"))
    (_, spilled, _) = figures(nvrtc.getProgramLog(program))["spilling"]
    assert spilled


# ---------------------------------------------------------------- names and signatures
ROOTS = ("cupy", "cupyx", "cupy_backends", "array_api_compat")
SOURCES = sorted(BACKEND.rglob("*.py"))


def aliases(tree):
    """What the names of a module stand for, of those that it imports from CuPy: dotted paths."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for a in node.names:
                if a.name.partition(".")[0] in ROOTS:
                    found[a.asname or a.name.partition(".")[0]] = (
                        a.name if a.asname else a.name.partition(".")[0]
                    )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ROOTS:
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):  # compat: Any = array_api_compat.cupy
        target = node.target if isinstance(node, ast.AnnAssign) else None
        value = node.value if target is not None else None
        if isinstance(target, ast.Name) and isinstance(value, ast.Attribute):
            root, *rest = dotted(value) or ("",)
            if root in found:
                found[target.id] = ".".join([found[root], *rest])
    return found


def dotted(node):
    """The names of ``a.b.c``, or None if it does not begin with a name."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    names.append(node.id)
    if names[-1] == "self" and len(names) > 1 and names[-2] == "cupy":
        names.pop()  # self.cupy, the module itself
    return tuple(reversed(names))


def resolve(path):
    """The object behind a dotted path; what an attribute lacks may be a module."""
    names = path.split(".")
    found = importlib.import_module(names[0])
    for i, name in enumerate(names[1:], start=2):
        try:
            found = getattr(found, name)
        except AttributeError:
            if not inspect.ismodule(found):
                raise
            found = importlib.import_module(".".join(names[:i]))
    return found


def uses(source):
    """Pairs of every path into CuPy that a source names, and the call that it is, or None."""
    tree = ast.parse(source)
    known = {"cupy": "cupy"} if "self.cupy" in source else {}
    known |= aliases(tree)
    calls = {id(n.func): n for n in ast.walk(tree) if isinstance(n, ast.Call)}
    inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute | ast.Name) or id(node) in inner:
            continue
        names = dotted(node)
        if names and names[0] in known:
            found.append((".".join([known[names[0]], *names[1:]]), calls.get(id(node))))
    return found


def signature(function):
    """The signature of a function of CuPy, read from its docstring where it is compiled; or None."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        pass
    line = (function.__doc__ or "").partition("\n")[0]
    match = re.fullmatch(r"[\w.]+\((.*)\)(?: ->.*)?", line.strip())
    return None if match is None else read_signature(match[1])


def read_signature(text):
    """The signature that Cython writes into a docstring: ``self, Py_ssize_t size, str name=None, *, x``."""
    param = inspect.Parameter
    kind, made = param.POSITIONAL_OR_KEYWORD, []
    for part in filter(None, (p.strip() for p in re.split(r",(?![^([{]*[)\]}])", text))):
        declared, _, default = part.partition("=")
        declared = declared.strip().replace("\\", "")
        name = declared.split(":")[0].split()[-1].lstrip("*")
        if declared.startswith("**"):
            made.append(param(name, param.VAR_KEYWORD))
        elif declared == "*":
            kind = param.KEYWORD_ONLY
        elif declared.startswith("*"):
            made.append(param(name, param.VAR_POSITIONAL))
            kind = param.KEYWORD_ONLY
        elif declared == "/":
            made = [p.replace(kind=param.POSITIONAL_ONLY) for p in made]
        elif name != "self":
            made.append(param(name, kind, default=default if "=" in part else param.empty))
    return inspect.Signature(made)


def binds(function, call):
    """Whether `function` takes the arguments of `call`, as far as both are known; else the reason."""
    known = signature(function)
    if known is None or any(isinstance(a, ast.Starred) for a in call.args):
        return None
    keywords = [k.arg for k in call.keywords if k.arg]
    bind = known.bind_partial if len(keywords) < len(call.keywords) else known.bind
    try:
        bind(*call.args, **dict.fromkeys(keywords))
    except TypeError as exc:
        return str(exc)
    return None


def faults_of(source):
    """What a source names or calls that CuPy does not have."""
    faults = []
    for path, call in uses(source):
        if not is_there(path):
            faults.append(f"no {path}")
            continue
        try:
            found = resolve(path)
        except ImportError:
            continue
        if call is not None and callable(found) and (why := binds(found, call)):
            faults.append(f"{path} in line {call.lineno}: {why}")
    return faults


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(BACKEND).as_posix())
def test_cupy_has_what_the_backend_uses(path):
    assert faults_of(path.read_text(encoding="utf-8")) == []


# Methods that the backend calls on objects of CuPy, which no reading of the source can tell from others.
OBJECTS = {
    "cupy.ndarray": "argsort astype copy data device dtype get max ndim reshape set shape size strides sum "
    "transpose view",
    "cupy.cuda.Device": "attributes id synchronize __enter__ __exit__",
    "cupy.cuda.Event": "record synchronize",
    "cupy.cuda.MemoryPointer": "copy_from_device_async ptr",
    "cupy.cuda.MemoryPool": "free_all_blocks get_limit total_bytes used_bytes",
    "cupy.cuda.PinnedMemoryPool": "free_all_blocks",
    "cupy.cuda.Stream": "begin_capture end_capture record synchronize wait_event __enter__ __exit__",
    "cupy.RawModule": "get_function",
    "cupy.RawKernel": "max_dynamic_shared_size_bytes __call__",
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_of_cupy_have_the_methods_that_the_backend_calls(kind):
    found = resolve(kind)
    assert [name for name in OBJECTS[kind].split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(BACKEND).as_posix())
def test_methods_of_arrays_streams_and_events_take_these_keywords(path):
    kinds = [resolve(kind) for kind in ("cupy.ndarray", "cupy.cuda.Stream", "cupy.cuda.Event")]
    faults = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        names = dotted(node.func)
        root = names[0] if names else None
        if root in {"self", "xp", "np", "super", *ROOTS} or not node.keywords:
            continue
        methods = [m for k in kinds if (m := getattr(k, node.func.attr, None)) is not None]
        known = [s for m in methods if (s := signature(m)) is not None]
        keywords = {k.arg for k in node.keywords if k.arg}
        if known and not any(keywords <= set(s.parameters) for s in known):
            faults.append(f"line {node.lineno}: {ast.unparse(node)}")
    assert faults == []


def test_what_cupy_lacks_is_seen():
    source = """
import cupy
from cupyx.scipy import special
from cupy.cuda import Nothing

class Backend:
    def f(self, x):
        cupy.emptyy(3)
        self.cupy.zeros(3, dtypo=int)
        cupy.cuda.Event(disable_timing=True, colour=1)
        cupy.cuda.get_current_stream(device=1)
        return special.erf(x), cupy.asarray(x, blocking=True), cupy.cuda.runtime.memGetInfo()
"""
    assert [fault.partition(":")[0] for fault in faults_of(source)] == [
        "no cupy.emptyy",
        "cupy.zeros in line 9",
        "cupy.cuda.Event in line 10",
        "cupy.cuda.get_current_stream in line 11",
    ]
    assert "cupy.cuda.Nothing" in aliases(ast.parse(source)).values()
    parsed = read_signature("self, Py_ssize_t size, str name=None, *, bool backend=False")
    assert list(parsed.parameters) == ["size", "name", "backend"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(BACKEND).as_posix())
def test_what_is_imported_from_cupy_is_there(path):
    found = aliases(ast.parse(path.read_text(encoding="utf-8")))
    assert [p for p in found.values() if not is_there(p)] == []


def is_there(path):
    try:
        resolve(path)
    except (AttributeError, ImportError):
        # There all the same: CuPy's part of a library of NVIDIA's that is not installed.
        parent, _, name = path.rpartition(".")
        return parent == "cupy.cuda" and find_spec(f"cupy_backends.cuda.libs.{name}") is not None
    return True


def test_a_module_that_is_not_there_is_seen():
    assert is_there("cupy.cuda.cublas")
    assert not is_there("cupy.cuda.cublast")
    assert not is_there("cupyx.scipy.nothing")


# ---------------------------------------------------------------- without a driver
def without_gpu(code):
    """Run code where CUDA shows no GPU."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    return done.stdout, done.stderr


def test_every_module_of_the_backend_imports_without_a_gpu():
    names = [".".join(p.relative_to(BACKEND.parent).with_suffix("").parts) for p in SOURCES]
    names = [n.removesuffix(".__init__") for n in names if "_cudnn" not in n or find_spec("cudnn")]
    code = "import importlib\nfor name in {!r}:\n    importlib.import_module(name)\nprint('ok')"
    assert without_gpu(code.format(names))[0] == "ok\n"


def test_the_message_without_a_driver_or_gpu_says_what_to_do():
    out, _ = without_gpu(
        "import tinyxp\n"
        "try:\n    tinyxp.device('cuda')\n"
        "except tinyxp.DeviceUnavailableError as exc:\n    print(exc)\n"
        "print(tinyxp.available_backends())"
    )
    message, available = out.splitlines()
    assert re.match(r"CuPy \d+\.\d+\.\d+ is installed, (but there is no NVIDIA driver|and the driver is there)", message)  # fmt: skip
    assert re.search(r"nvidia-smi|unset CUDA_VISIBLE_DEVICES", message)
    assert "cupy" not in available
    assert "numpy" in available


def test_auto_takes_the_cpu_and_says_why():
    code = "import tinyxp\nm = tinyxp.GPT(5, 8, 1, 2, 4, device='auto', seed=0)\nprint(m.device)"
    out, err = without_gpu(code)
    assert out == "cpu\n"
    assert "device 'auto' does not take 'cuda': CuPy" in err


def test_training_on_auto_says_why_it_is_the_cpu(tmp_path):
    code = (
        "from tinyxp.__main__ import main\n"
        f"main(['train', '--preset', 'tiny', '--steps', '2', '--out', {str(tmp_path / 'run')!r}])"
    )
    out, err = without_gpu(code)
    assert re.search(r"device cpu, not cuda: CuPy \d+.* is installed, .*type: ", out)
    assert "does not take" not in err  # said once
