//! Names that have no place in a checkpoint. Nothing is ever called, so this is not what keeps the reader safe:
//! it is what tells a person that the file in their hands is hostile.

/// Modules whose whole purpose is to act: processes, files, sockets, interpreters, other unpicklers. Named exactly,
/// since a researcher's own package may well be called `code` or `trace`.
const MODULES: &[&str] = &[
    "_io",
    "_osx_support",
    "_pickle",
    "_posixsubprocess",
    "_socket",
    "_thread",
    "bdb",
    "cProfile",
    "code",
    "codeop",
    "commands",
    "doctest",
    "ftplib",
    "httplib",
    "imp",
    "io",
    "marshal",
    "mmap",
    "nt",
    "operator",
    "pdb",
    "pickle",
    "pickletools",
    "pkgutil",
    "platform",
    "popen2",
    "posix",
    "profile",
    "pty",
    "pydoc",
    "runpy",
    "shelve",
    "shutil",
    "signal",
    "site",
    "smtplib",
    "socket",
    "socketserver",
    "ssl",
    "subprocess",
    "sys",
    "telnetlib",
    "threading",
    "timeit",
    "trace",
    "urllib2",
    "webbrowser",
    "winreg",
    "zipimport",
];

/// Packages of the same kind, with everything in them.
const PACKAGES: &[&str] = &[
    "asyncio",
    "cloudpickle",
    "concurrent",
    "ctypes",
    "dill",
    "distutils",
    "ensurepip",
    "http",
    "idlelib",
    "importlib",
    "joblib",
    "multiprocessing",
    "numpy.distutils",
    "numpy.f2py",
    "numpy.testing",
    "os",
    "pip",
    "requests",
    "setuptools",
    "torch._dynamo",
    "torch._inductor",
    "torch.hub",
    "torch.package",
    "torch.utils.cpp_extension",
    "urllib",
    "venv",
    "xmlrpc",
];

/// Single functions of modules that are otherwise harmless.
const FUNCTIONS: &[(&str, &str)] = &[
    ("codecs", "open"),
    ("tempfile", "mktemp"),
    ("torch", "load"),
    ("torch.serialization", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("torch.utils.model_zoo", "load_url"),
    ("types", "CodeType"),
    ("types", "FunctionType"),
    ("types", "LambdaType"),
];

/// Functions of the interpreter itself.
const BUILTINS: &[&str] = &[
    "__import__",
    "apply",
    "breakpoint",
    "compile",
    "delattr",
    "dir",
    "eval",
    "exec",
    "execfile",
    "exit",
    "file",
    "getattr",
    "globals",
    "help",
    "input",
    "locals",
    "open",
    "quit",
    "raw_input",
    "reload",
    "setattr",
    "vars",
];

/// True if `module.name` is something that a checkpoint has no reason to mention.
pub(super) fn is_forbidden(module: &str, name: &str) -> bool {
    if MODULES.contains(&module) || FUNCTIONS.contains(&(module, name)) {
        return true;
    }
    let inside = |package: &&str| {
        module
            .strip_prefix(*package)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    if PACKAGES.iter().any(inside) {
        return true;
    }
    // A dotted name (protocol 4) reaches attributes: only its first part says what is touched first.
    let first = name.split('.').next().unwrap_or(name);
    matches!(module, "builtins" | "__builtin__")
        && (BUILTINS.contains(&first) || name.contains("__"))
}

#[cfg(test)]
mod tests {
    use super::is_forbidden;

    #[test]
    fn what_acts_is_forbidden_and_what_describes_is_not() {
        for (module, name) in [
            ("posix", "system"),
            ("os", "system"),
            ("os.path", "join"),
            ("builtins", "eval"),
            ("__builtin__", "exec"),
            ("builtins", "getattr"),
            ("builtins", "object.__subclasses__"),
            ("subprocess", "Popen"),
            ("torch.hub", "load"),
            ("torch", "load"),
            ("numpy.testing._private.utils", "runstring"),
        ] {
            assert!(is_forbidden(module, name), "{module}.{name}");
        }
        for (module, name) in [
            ("collections", "OrderedDict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "FloatStorage"),
            ("torch.optim.adamw", "AdamW"),
            ("medical_diffusion.models.estimators.unet2", "UNet"),
            ("builtins", "set"),
            ("pathlib", "PosixPath"),
            ("functools", "partial"),
            ("osmosis", "Filter"),
            ("code.models", "UNet"),
            ("torch.hubris", "X"),
        ] {
            assert!(!is_forbidden(module, name), "{module}.{name}");
        }
    }
}
