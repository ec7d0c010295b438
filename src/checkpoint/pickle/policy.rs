//! Names that have no place in a checkpoint. Nothing is ever called, so this is not what keeps the reader safe:
//! it is what tells a person that the file in their hands is hostile.
//!
//! Hyper-parameters hold whatever a person passed to a network: bound methods, lambdas, partial functions, enums. They are
//! no attack and stay opaque, as long as they do not reach for what is named here.

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
    "concurrent",
    "ctypes",
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

/// What describes something, in modules that otherwise act.
const HARMLESS: &[(&str, &str)] = &[
    ("_io", "BytesIO"),
    ("_io", "StringIO"),
    ("http", "HTTPMethod"),
    ("http", "HTTPStatus"),
    ("io", "BytesIO"),
    ("io", "StringIO"),
    ("multiprocessing.context", "DefaultContext"),
    ("multiprocessing.context", "ForkContext"),
    ("multiprocessing.context", "ForkServerContext"),
    ("multiprocessing.context", "SpawnContext"),
    ("platform", "uname_result"),
    ("signal", "Handlers"),
    ("signal", "Sigmasks"),
    ("signal", "Signals"),
    ("socket", "AddressFamily"),
    ("socket", "SocketKind"),
    ("torch._dynamo.eval_frame", "OptimizedModule"),
    ("urllib.parse", "ParseResult"),
    ("urllib.parse", "SplitResult"),
];

/// Single functions of modules that are otherwise harmless.
const FUNCTIONS: &[(&str, &str)] = &[
    ("codecs", "open"),
    ("operator", "call"),
    ("tempfile", "mktemp"),
    ("torch", "load"),
    ("torch.serialization", "load"),
    ("torch.utils.model_zoo", "load_url"),
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

/// Functions that import a module given as a text, as pickled lambdas do for the modules that they use.
const IMPORTS: &[(&str, &str)] = &[
    ("cloudpickle.cloudpickle", "subimport"),
    ("dill._dill", "_import_module"),
];

/// Attributes through which `getattr` leads from any object to the interpreter.
const ATTRIBUTES: &[&str] = &[
    "__base__",
    "__bases__",
    "__builtins__",
    "__code__",
    "__getattribute__",
    "__globals__",
    "__import__",
    "__loader__",
    "__mro__",
    "__subclasses__",
];

/// What is forbidden about the call of `module.name` with `texts` among its arguments, by position.
pub(super) fn forbidden_argument<'t>(
    module: &str,
    name: &str,
    texts: &[Option<&'t str>],
) -> Option<&'t str> {
    if matches!((module, name), ("builtins" | "__builtin__", "getattr")) {
        let attribute = texts.get(1).copied().flatten()?;
        return attribute
            .split('.')
            .any(|part| ATTRIBUTES.contains(&part))
            .then_some(attribute);
    }
    if IMPORTS.contains(&(module, name)) {
        let module = texts.first().copied().flatten()?;
        return is_forbidden(module, "").then_some(module);
    }
    None
}

/// True if `module.name` is something that a checkpoint has no reason to mention.
pub(super) fn is_forbidden(module: &str, name: &str) -> bool {
    if HARMLESS.contains(&(module, name)) {
        return false;
    }
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
    use super::{IMPORTS, forbidden_argument, is_forbidden};

    #[test]
    fn what_acts_is_forbidden_and_what_describes_is_not() {
        for (module, name) in [
            ("posix", "system"),
            ("os", "system"),
            ("os.path", "join"),
            ("builtins", "eval"),
            ("__builtin__", "exec"),
            ("builtins", "object.__subclasses__"),
            ("subprocess", "Popen"),
            ("torch.hub", "load"),
            ("torch._inductor.codecache", "PyCodeCache"),
            ("io", "open"),
            ("signal", "signal"),
            ("operator", "call"),
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
            ("builtins", "getattr"),
            ("operator", "itemgetter"),
            ("signal", "Signals"),
            ("io", "BytesIO"),
            ("types", "FunctionType"),
            ("dill._dill", "_create_function"),
            ("cloudpickle.cloudpickle", "_make_function"),
            ("torch._dynamo.eval_frame", "OptimizedModule"),
            ("numpy", "dtype"),
            ("osmosis", "Filter"),
            ("code.models", "UNet"),
            ("torch.hubris", "X"),
        ] {
            assert!(!is_forbidden(module, name), "{module}.{name}");
        }
    }

    #[test]
    fn an_attribute_or_a_module_is_as_forbidden_as_what_it_leads_to() {
        let method = [None, Some("method")];
        assert_eq!(forbidden_argument("builtins", "getattr", &method), None);
        let globals = [None, Some("forward.__globals__")];
        for module in ["builtins", "__builtin__"] {
            let found = forbidden_argument(module, "getattr", &globals);
            assert_eq!(found, Some("forward.__globals__"));
        }
        for (module, name) in IMPORTS {
            assert_eq!(forbidden_argument(module, name, &[Some("numpy")]), None);
            let os = forbidden_argument(module, name, &[Some("os")]);
            assert_eq!(os, Some("os"));
        }
        assert_eq!(
            forbidden_argument("my.package", "load", &[Some("os")]),
            None
        );
    }
}
