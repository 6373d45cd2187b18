"""Modules: refused trees, those of which a few members may be used, the list of `strict`."""

from collections.abc import Mapping

from grotto_policy.model import Reason
from grotto_policy.tables.reasons import (
    FILES,
    IMPORTER,
    INTERPRETER,
    NATIVE,
    NETWORK,
    PICKLES,
    PROCESSES,
    RUNTIME,
    TERMINAL,
    TIMING,
    table,
    words,
)

MODULES: Mapping[str, Reason] = table(
    (
        FILES,
        "os posix nt posixpath ntpath genericpath shutil fileinput linecache filecmp tokenize"
        " pwd grp spwd nis mailbox netrc fcntl",
    ),
    (
        PROCESSES,
        "subprocess multiprocessing multiprocess billiard concurrent.futures.process pty"
        " signal resource pexpect psutil atexit pipes commands"
        " asyncio.subprocess asyncio.base_subprocess asyncio.unix_events loky ray dask",
    ),
    (
        NETWORK,
        "socket socketserver ssl select selectors http ftplib smtplib smtpd poplib imaplib"
        " nntplib telnetlib asyncore asynchat xmlrpc wsgiref cgi cgitb webbrowser"
        " urllib.request urllib.robotparser urllib3 requests httpx aiohttp httplib2 websocket"
        " websockets paramiko fabric grpc zmq boto3 botocore s3fs fsspec logging.handlers",
    ),
    (
        INTERPRETER,
        "builtins __builtin__ __main__ gc inspect sys dis symtable opcode faulthandler"
        " tracemalloc sysconfig site sitecustomize usercustomize"
        " unittest.mock mock logging.config",
    ),
    (
        IMPORTER,
        "importlib imp runpy pkgutil zipimport zipapp code codeop pdb bdb doctest profile"
        " cProfile trace py_compile compileall modulefinder pydoc pyclbr rlcompleter"
        " ensurepip venv pip setuptools pkg_resources distutils lib2to3 idlelib test gettext"
        " antigravity numpy.f2py numpy.distutils IPython ipykernel jupyter_client",
    ),
    (TIMING, "timeit"),
    (
        NATIVE,
        "ctypes cffi mmap numpy.ctypeslib pyximport cython Cython pythran"
        " winreg msvcrt msilib winsound ossaudiodev",
    ),
    (
        PICKLES,
        "pickle cPickle pickletools shelve dbm marshal copyreg dill cloudpickle joblib"
        " jsonpickle pandas.compat.pickle_compat",
    ),
    (TERMINAL, "tkinter turtle turtledemo curses readline getpass tty termios syslog"),
    (
        RUNTIME,
        "grotto grotto_control grotto_policy grotto_proto grotto_runtime grotto_wire grotto_worker",
    ),
)

LIMITED_MODULES: Mapping[str, frozenset[str]] = {
    "sys": words(
        "byteorder copyright float_info float_repr_style flush getdefaultencoding getrecursionlimit"
        " getrefcount getsizeof hash_info hexversion implementation int_info intern maxsize"
        " maxunicode platform setrecursionlimit stderr stdout stdlib_module_names thread_info"
        " version version_info"
    ),
    "gc": frozenset({"collect", "disable", "enable", "get_count", "isenabled"}),
    "inspect": words(
        "Parameter Signature cleandoc getdoc isabstract isasyncgenfunction isbuiltin isclass"
        " iscoroutine iscoroutinefunction isdatadescriptor isfunction isgenerator"
        " isgeneratorfunction ismethod ismodule isroutine signature"
    ),
    "IPython.display": words("HTML Image JSON Latex Markdown Math Pretty SVG clear_output display"),
    "tracemalloc": words("start stop get_traced_memory reset_peak is_tracing"),
    "joblib": words("Parallel delayed cpu_count dump hash parallel_backend"),
}

STAR_MODULES = words(
    "math cmath decimal fractions statistics datetime time itertools collections functools random"
    " dataclasses enum re numbers heapq bisect sympy numpy pylab mpmath"
)

STRICT_MODULES = words(
    "abc array base64 binascii bisect calendar cmath collections colorsys contextlib copy csv"
    " dataclasses datetime decimal difflib enum fractions functools graphlib hashlib heapq html io"
    " itertools json locale math numbers operator pprint random re secrets statistics string struct"
    " textwrap time types typing typing_extensions unicodedata uuid warnings zlib zoneinfo dateutil"
    " matplotlib mpmath networkx numpy pandas patsy PIL polars pyarrow pytz scipy seaborn sklearn"
    " statsmodels sympy tabulate"
)
