"""What the shipped policies are made of: modules, builtins and attributes, with reasons.

Owns tables only. Which policy uses which table is decided in `policies.py`. The tables name
classes of things (whole module trees, every frame attribute), never single programs.
"""

from collections.abc import Mapping

from grotto_policy.model import Reason

PROCESSES = Reason(
    "It starts or controls processes of the operating system.",
    "Do the work in Python in this session; long work may take several executions.",
)
FILES = Reason(
    "It reaches the operating system and files outside the session.",
    'Use `pathlib.Path("data")`, `open("file.txt")` or `pandas.read_csv("file.csv")` on files of the'
    " workspace, the current directory.",
)
NETWORK = Reason(
    "It opens network connections, and the sandbox has none.",
    "Work with the variables and workspace files of the session; ask for missing data to be injected.",
)
INTERPRETER = Reason(
    "It reaches into the running interpreter.",
    "Use ordinary functions, classes and the injected variables.",
)
IMPORTER = Reason(
    "It imports or runs code that cannot be read off the source.",
    "Write the import as a statement, `import json`, and call functions directly.",
)
NATIVE = Reason(
    "It calls native code or raw memory, past every check.",
    "Use numpy for binary data and fast arithmetic.",
)
PICKLES = Reason(
    "It loads pickles or code objects, which run any code they contain.",
    "Keep objects in variables of the session; store tables as CSV or Parquet, the rest as JSON.",
)
TERMINAL = Reason(
    "It needs a terminal, a display or a person at a keyboard, and the sandbox has none.",
    "Assign the value in the code, and print or plot results.",
)
RUNTIME = Reason(
    "It belongs to the runtime that executes this code.",
    "Use the injected variables; results are read by name.",
)
TIMING = Reason(
    "It runs text as code.",
    "Measure with `time.perf_counter()` before and after the call.",
)
PRIVATE_MODULE = Reason(
    "A module with a leading underscore is an internal part of the interpreter or a library.",
    "Import the public module instead, such as `io` for `_io`.",
)
UNLISTED = Reason(
    "This policy accepts listed modules only, and this one is not listed.",
    "Use the standard mathematics, text and collection modules, numpy or pandas.",
)


def _table(*groups: tuple[Reason, str]) -> dict[str, Reason]:
    return {name: reason for reason, names in groups for name in names.split()}


MODULES: Mapping[str, Reason] = _table(
    (FILES, "os posix nt posixpath ntpath genericpath shutil fileinput linecache filecmp tokenize"
            " pwd grp spwd nis mailbox netrc fcntl"),
    (PROCESSES, "subprocess multiprocessing multiprocess billiard concurrent.futures.process pty"
                " signal resource posixsubprocess pexpect psutil sched_ext atexit pipes commands"
                " asyncio.subprocess asyncio.base_subprocess asyncio.unix_events loky ray dask"),
    (NETWORK, "socket socketserver ssl select selectors http ftplib smtplib smtpd poplib imaplib"
              " nntplib telnetlib asyncore asynchat xmlrpc wsgiref cgi cgitb webbrowser"
              " urllib.request urllib.robotparser urllib3 requests httpx aiohttp httplib2 websocket"
              " websockets paramiko fabric grpc zmq boto3 botocore s3fs fsspec logging.handlers"),
    (INTERPRETER, "builtins __builtin__ __main__ gc inspect sys dis symtable opcode faulthandler"
                  " tracemalloc sysconfig site sitecustomize usercustomize xxsubtype"
                  " unittest.mock mock logging.config"),
    (IMPORTER, "importlib imp runpy pkgutil zipimport zipapp code codeop pdb bdb doctest profile"
               " cProfile trace py_compile compileall modulefinder pydoc pyclbr rlcompleter"
               " ensurepip venv pip setuptools pkg_resources distutils lib2to3 idlelib test gettext"
               " antigravity numpy.f2py numpy.distutils IPython ipykernel jupyter_client"),
    (TIMING, "timeit"),
    (NATIVE, "ctypes cffi mmap numpy.ctypeslib pyximport cython Cython pythran"
             " winreg msvcrt msilib winsound ossaudiodev"),
    (PICKLES, "pickle cPickle pickletools shelve dbm marshal copyreg dill cloudpickle joblib"
              " jsonpickle pandas.compat.pickle_compat"),
    (TERMINAL, "tkinter turtle turtledemo curses readline getpass tty termios syslog"),
    (RUNTIME, "grotto grotto_control grotto_policy grotto_proto grotto_runtime grotto_wire"
              " grotto_worker"),
)

LIMITED_MODULES: Mapping[str, frozenset[str]] = {
    "sys": frozenset(
        "byteorder copyright float_info float_repr_style flush getdefaultencoding getrecursionlimit"
        " getrefcount getsizeof hash_info hexversion implementation int_info intern maxsize"
        " maxunicode platform setrecursionlimit stderr stdout stdlib_module_names thread_info"
        " version version_info".split()
    ),
    "gc": frozenset({"collect", "disable", "enable", "get_count", "isenabled"}),
    "inspect": frozenset(
        "Parameter Signature cleandoc getdoc isabstract isasyncgenfunction isbuiltin isclass"
        " iscoroutine iscoroutinefunction isdatadescriptor isfunction isgenerator"
        " isgeneratorfunction ismethod ismodule isroutine signature".split()
    ),
    "tracemalloc": frozenset("start stop get_traced_memory reset_peak is_tracing".split()),
    "joblib": frozenset("Parallel delayed cpu_count dump hash parallel_backend".split()),
}

STAR_MODULES = frozenset(
    "math cmath decimal fractions statistics datetime time itertools collections functools random"
    " dataclasses enum re numbers heapq bisect sympy numpy pylab turtle mpmath".split()
) - {"turtle"}

STRICT_MODULES = frozenset(
    "abc array base64 binascii bisect calendar cmath collections colorsys contextlib copy csv"
    " dataclasses datetime decimal difflib enum fractions functools graphlib hashlib heapq html io"
    " itertools json locale math numbers operator pprint random re secrets statistics string struct"
    " textwrap time types typing typing_extensions unicodedata uuid warnings zlib zoneinfo dateutil"
    " matplotlib mpmath networkx numpy pandas patsy PIL polars pyarrow pytz scipy seaborn sklearn"
    " statsmodels sympy tabulate".split()
)

_CODE = Reason(
    "It runs text as code, which cannot be checked.",
    "Write the code itself; read values with `ast.literal_eval` or `json.loads`.",
)
_NAMESPACE = Reason(
    "It hands out a namespace, with everything the interpreter holds in it.",
    "Use the variables by name, or keep values in a dict of your own.",
)
_NO_INPUT = Reason(
    "Nobody can answer: the sandbox has no terminal.",
    "Assign the value in the code, or ask the user in your answer.",
)
LOOKUP = Reason(
    "It looks attributes up by text, so it may only be called directly, with names one can read.",
    'Write the attribute directly, `obj.name`, or `getattr(obj, "name", default)`.',
)
BUILTINS: Mapping[str, Reason] = {
    **dict.fromkeys(("eval", "exec", "compile"), _CODE),
    **dict.fromkeys(("globals", "locals", "vars"), _NAMESPACE),
    "__import__": IMPORTER,
    "__builtins__": INTERPRETER,
    "__loader__": IMPORTER,
    "__spec__": IMPORTER,
    "__build_class__": INTERPRETER,
    "get_ipython": RUNTIME,
}
BUILTIN_CALLS: Mapping[str, Reason] = {"input": _NO_INPUT, "breakpoint": _NO_INPUT}
LOOKUPS = frozenset({"getattr", "setattr", "delattr", "attrgetter", "methodcaller"})

_HINTS = Reason(
    "It evaluates annotations, which are text, as code.",
    "Read `__annotations__`, or `dataclasses.fields` for a dataclass.",
)
_FORMATTER = Reason(
    "It reads attributes that a format text names, and returns the objects.",
    'Use f-strings, or `"{name}".format(name=value)`.',
)
MEMBERS: Mapping[str, Reason] = {
    **dict.fromkeys(("get_type_hints", "ForwardRef", "get_annotations", "evaluate_forward_ref"), _HINTS),
    **dict.fromkeys(("string.Formatter", "Formatter.get_field"), _FORMATTER),
    **dict.fromkeys(("CodeType", "resolve_name", "runstring", "rundocs", "loadTestsFromName"), IMPORTER),
    **dict.fromkeys(("ProcessPoolExecutor", "create_subprocess_exec", "create_subprocess_shell"), PROCESSES),
    **dict.fromkeys(("open_code", "ctypeslib", "f2py"), NATIVE),
    **dict.fromkeys(("urlopen", "urlretrieve", "open_connection", "start_server"), NETWORK),
    **dict.fromkeys(("read_pickle", "pandas.to_pickle"), PICKLES),
}
NO_ALLOW_PICKLE = Reason(
    "Loading pickled objects runs any code they contain.",
    "Save plain arrays without objects, or a table as CSV or Parquet.",
)
EVALUATORS = frozenset(
    "eval query sympify parse_expr lambdify S evaluate re_evaluate assign_formula from_formula"
    " dmatrix dmatrices ols gls wls glsar logit probit poisson mnlogit negativebinomial glm mixedlm"
    " rlm quantreg phreg gee conditional_logit".split()
)

OUTSIDE = Reason(
    "The path leads out of the session's workspace.",
    'Use a path relative to the workspace, the current directory: `"data/file.csv"`.',
)
PATH_CALLABLES = frozenset(
    "open FileIO Path PosixPath joinpath glob iglob rglob load loadtxt genfromtxt fromfile memmap"
    " open_memmap save savez savez_compressed savetxt tofile DataSource imread imsave savefig"
    " loadmat savemat mmread mmwrite load_npz save_npz ZipFile PyZipFile TarFile GzipFile BZ2File"
    " LZMAFile FileHandler connect get_handle ExcelFile ExcelWriter HDFStore File scandir listdir"
    " walk basicConfig NamedTemporaryFile TemporaryDirectory TemporaryFile mkdtemp mkstemp"
    " extractall extract open_text getlines write_text write_bytes symlink_to hardlink_to rename_to"
    .split()
)
PATH_PREFIXES = ("read_", "to_", "scan_", "write_", "load_", "fetch_")
PATH_KEYWORDS = frozenset(
    "path path_or_buf filepath_or_buffer filename fname file dir pathname database name io target"
    " path_or_buffer excel_writer root_dir source".split()
)
WORKSPACE_ROOTS = ("/workspace",)

FRAMES = Reason(
    "It reaches the frames and code of running functions, and through them the interpreter.",
    "Return or yield the values you need; `traceback.format_exc()` shows where an error arose.",
)
DUNDER = Reason(
    "Internal attributes lead from any object to the whole interpreter.",
    "Use public attributes and functions: `type(x).__name__`, `isinstance`, `len`, `dataclasses.asdict`.",
)
PIVOT = Reason(
    "It reaches a refused module through another one, or something that is only found there.",
    'Use the public functions of the module; a column of that name is `row["os"]`.',
)
PRIVATE_MEMBER = Reason(
    "Members of a standard module with a leading underscore are its internals.",
    "Use the public functions of the module.",
)
ATTRIBUTES: Mapping[str, Reason] = {
    **dict.fromkeys(
        "gi_frame gi_code gi_yieldfrom cr_frame cr_code cr_await cr_origin ag_frame ag_code ag_await"
        " tb_frame f_globals f_locals f_builtins f_back f_code f_trace co_code co_consts co_names"
        " func_globals func_code func_closure currentframe".split(),
        FRAMES,
    ),
    **dict.fromkeys("popen create_subprocess_shell create_subprocess_exec subprocess_exec"
                    " subprocess_shell ProcessPoolExecutor fork_exec".split(), PROCESSES),
    **dict.fromkeys("enable_load_extension load_extension load_library ctypeslib".split(), NATIVE),
    **dict.fromkeys("read_pickle".split(), PICKLES),
    **dict.fromkeys("get_ipython getoutput run_line_magic run_cell_magic".split(), RUNTIME),
    **dict.fromkeys("get_objects get_referrers get_referents getattr_static getouterframes"
                    " getinnerframes _module _Printer__filenames _Printer__setup _getframe".split(), INTERPRETER),
    **dict.fromkeys("loadTestsFromName loadTestsFromNames resolve_name".split(), IMPORTER),
}

_NUMERIC = (
    "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and xor or neg pos abs invert"
)
_DATA_MODEL = (
    "init new post_init init_subclass class_getitem repr str bytes format hash bool len length_hint"
    " eq ne lt le gt ge getitem setitem delitem missing iter next reversed contains call enter exit"
    " aenter aexit aiter anext await int float complex index round trunc floor ceil copy deepcopy"
    " set_name fspath setattr delattr dir sizeof instancecheck subclasscheck del"
)
_DESCRIPTIVE = (
    "name qualname module doc version annotations class members fields match_args slots file"
    " dataclass_fields dataclass_params cause context suppress_context traceback notes wrapped all"
    " author defaults kwdefaults type_params abstractmethods args origin parameters"
)
_ARRAYS = (
    "array array_interface array_ufunc array_function array_wrap array_finalize array_prepare"
    " array_priority array_struct array_namespace array_namespace_info array_api_version"
)
HARMLESS_DUNDERS = frozenset(
    f"__{prefix}{name}__"
    for names, prefixes in (
        (_NUMERIC, ("", "r", "i")),
        (_DATA_MODEL, ("",)),
        (_DESCRIPTIVE, ("",)),
        (_ARRAYS, ("",)),
    )
    for name in names.split()
    for prefix in prefixes
) | {"__dataframe__", "__arrow_array__", "__arrow_c_stream__", "__pydantic_fields__"}

PUBLIC_UNDERSCORE = frozenset(
    "_asdict _fields _field_defaults _make _replace _repr_html_ _repr_png_ _repr_mimebundle_"
    " _ipython_display_ _".split()
)

_AMBIGUOUS = frozenset(
    "signal resource code site test select platform http trace profile commands pipes dask ray"
    " grotto mock File nis".split()
)
PIVOTS = (
    frozenset(name for name in MODULES if "." not in name) - _AMBIGUOUS
) | {"bltns", "bltn_open", "builtin_open", "bootstrap", "bootstrap_external", "thread"}
PIVOT_EXCEPTIONS = frozenset({"socket.socket"})

_FILE_FUNCTIONS = (
    "abort chdir chmod chown chroot close environ environb execl execle execlp execlpe execv execve"
    " execvp execvpe fdopen fork forkpty fstat getcwd getenv getenvb getlogin getpid getppid getuid"
    " kill killpg link listdir lstat makedirs memfd_create mkdir mkfifo mknod open path pidfd_open"
    " popen posix_spawn posix_spawnp putenv read readlink remove removedirs rmdir scandir sendfile"
    " setgid setuid spawnl spawnle spawnlp spawnv spawnve spawnvp startfile stat symlink sys system"
    " uname unlink unsetenv urandom walk write _exit"
)
LANDMARKS: Mapping[str, frozenset[str]] = {
    "os": frozenset(_FILE_FUNCTIONS.split()),
    "posix": frozenset(_FILE_FUNCTIONS.split()),
    "sys": frozenset(
        "modules meta_path path path_hooks path_importer_cache settrace setprofile gettrace exit"
        " exc_info _getframe _current_frames argv executable addaudithook audit displayhook"
        " excepthook stdin __stdin__ __stdout__ breakpointhook call_tracing set_asyncgen_hooks"
        " set_coroutine_origin_tracking_depth unraisablehook monitoring activate_stack_trampoline"
        .split()
    ),
    "subprocess": frozenset("Popen run call check_call check_output getoutput PIPE".split()),
    "builtins": frozenset("eval exec compile open getattr globals locals vars".split()),
    "importlib": frozenset("import_module reload util machinery abc invalidate_caches".split()),
    "ctypes": frozenset("CDLL PyDLL cdll pythonapi util c_char_p cast string_at memmove".split()),
    "gc": frozenset("get_objects get_referrers get_referents callbacks".split()),
    "inspect": frozenset("stack currentframe getmembers getattr_static trace getouterframes".split()),
}
