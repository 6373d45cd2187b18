"""Callables that take paths, and where paths may lead."""

from grotto_policy.model import Reason
from grotto_policy.tables.reasons import words

OUTSIDE = Reason(
    "The path leads out of the session's workspace.",
    'Use a path relative to the workspace, the current directory: `"data/file.csv"`.',
)
PATH_CALLABLES = words(
    "open FileIO Path PosixPath joinpath glob iglob rglob load loadtxt genfromtxt fromfile memmap"
    " open_memmap save savez savez_compressed savetxt tofile DataSource imread imsave savefig"
    " loadmat savemat mmread mmwrite load_npz save_npz ZipFile PyZipFile TarFile GzipFile BZ2File"
    " LZMAFile FileHandler connect get_handle ExcelFile ExcelWriter HDFStore File scandir listdir"
    " walk basicConfig NamedTemporaryFile TemporaryDirectory TemporaryFile mkdtemp mkstemp"
    " open_text getlines write_text write_bytes symlink_to hardlink_to rename_to"
)
PATH_PREFIXES = ("read_", "to_", "scan_", "write_", "load_", "fetch_")
PATH_KEYWORDS = words(
    "path path_or_buf filepath_or_buffer filename fname file dir pathname database io target"
    " path_or_buffer excel_writer root_dir source"
)
SQL_CALLABLES = words("execute executescript executemany sql query read_sql")
WORKSPACE_ROOTS = ("/workspace",)
