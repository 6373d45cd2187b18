"""Attributes that lead from ordinary objects to the interpreter."""

from collections.abc import Mapping

from grotto_policy.model import Reason
from grotto_policy.tables.modules import MODULES
from grotto_policy.tables.reasons import (
    IMPORTER,
    INTERPRETER,
    NATIVE,
    PICKLES,
    PROCESSES,
    RUNTIME,
    words,
)

FRAMES = Reason(
    "It reaches the frames and code of running functions, and through them the interpreter.",
    "Return or yield the values you need; `traceback.format_exc()` shows where an error arose.",
)
DUNDER = Reason(
    "Internal attributes lead from any object to the whole interpreter.",
    "Use public attributes and functions: `type(x).__name__`, `isinstance`, `dataclasses.asdict`.",
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
        words(
            "gi_frame gi_code gi_yieldfrom cr_frame cr_code cr_await ag_frame ag_code ag_await"
            " tb_frame f_globals f_locals f_builtins f_back f_code f_trace co_code co_consts"
            " func_globals func_code func_closure currentframe"
        ),
        FRAMES,
    ),
    **dict.fromkeys(
        words(
            "popen create_subprocess_shell create_subprocess_exec subprocess_exec"
            " subprocess_shell ProcessPoolExecutor fork_exec"
        ),
        PROCESSES,
    ),
    **dict.fromkeys(words("enable_load_extension load_extension load_library ctypeslib"), NATIVE),
    **dict.fromkeys(words("read_pickle"), PICKLES),
    **dict.fromkeys(
        words("get_ipython getoutput run_line_magic run_cell_magic _ip user_ns"), RUNTIME
    ),
    **dict.fromkeys(
        words(
            "get_objects get_referrers get_referents getattr_static getouterframes"
            " getinnerframes _module _Printer__filenames _Printer__setup _getframe"
        ),
        INTERPRETER,
    ),
    **dict.fromkeys(words("loadTestsFromName loadTestsFromNames resolve_name"), IMPORTER),
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

TEXT_DUNDERS = words("__name__ __qualname__ __doc__ __module__ __version__ __len__")

PUBLIC_UNDERSCORE = words(
    "_asdict _fields _field_defaults _make _replace _repr_html_ _repr_png_ _repr_mimebundle_"
    " _ipython_display_ _"
)

_AMBIGUOUS = words(
    "signal resource code site test select platform http trace profile commands pipes dask ray"
    " grotto mock File nis"
)
PIVOTS = (frozenset(name for name in MODULES if "." not in name) - _AMBIGUOUS) | {
    "bltns",
    "bltn_open",
    "builtin_open",
    "thread",
}
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
    "sys": words(
        "modules meta_path path path_hooks path_importer_cache settrace setprofile gettrace exit"
        " exc_info _getframe _current_frames argv executable addaudithook audit displayhook"
        " excepthook stdin __stdin__ __stdout__ breakpointhook call_tracing set_asyncgen_hooks"
        " set_coroutine_origin_tracking_depth unraisablehook monitoring activate_stack_trampoline"
    ),
    "subprocess": words("Popen run call check_call check_output getoutput PIPE"),
    "builtins": words("eval exec compile open getattr globals locals vars"),
    "importlib": words("import_module reload util machinery abc invalidate_caches"),
    "ctypes": words("CDLL PyDLL cdll pythonapi util c_char_p cast string_at memmove"),
    "gc": words("get_objects get_referrers get_referents callbacks"),
    "inspect": words("stack currentframe getmembers getattr_static trace getouterframes"),
}
