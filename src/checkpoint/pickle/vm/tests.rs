use super::machine::MAX_NODES;
use super::*;
use crate::checkpoint::pickle::{PickleError, PickleNode};

fn parse(bytes: &[u8]) -> Pickle {
    Pickle::parse(bytes).unwrap().0
}

fn repr(bytes: &[u8]) -> String {
    let pickle = parse(bytes);
    pickle.repr(pickle.root())
}

#[test]
fn every_protocol_spells_the_same_value() {
    // {'a': [1, -2, 2.5, None, True], 'b': ('x', b'y')}, as CPython 3.12 writes it
    let expected = "{'a': [1, -2, 2.5, None, True], 'b': ('x', b'y')}";
    let protocol0 = b"(dp0\nVa\np1\n(lp2\nI1\naI-2\naF2.5\naNaI01\nasVb\np3\n(Vx\np4\nc_codecs\nencode\np5\n(Vy\np6\nVlatin1\np7\ntp8\nRp9\ntp10\ns.";
    let protocol2 = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00N\x88eX\x01\x00\x00\x00bq\x03X\x01\x00\x00\x00xq\x04c_codecs\nencode\nq\x05X\x01\x00\x00\x00yq\x06X\x06\x00\x00\x00latin1q\x07\x86q\x08Rq\t\x86q\nu.";
    let protocol4 = b"\x80\x04\x95*\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01J\xfe\xff\xff\xffG@\x04\x00\x00\x00\x00\x00\x00N\x88e\x8c\x01b\x94\x8c\x01x\x94C\x01y\x94\x86\x94u.";
    for bytes in [&protocol0[..], protocol2, protocol4] {
        assert_eq!(repr(bytes), expected);
    }
}

#[test]
fn texts_of_protocol_0_are_latin_1_with_escapes() {
    assert_eq!(repr(b"V\xfc\\u20ac\\U0001f600\\u005cn\n."), "'ü€😀\\\\n'");
    assert_eq!(repr(b"S'it\\'s \\x41\\n'\n."), "\"it's A\\n\"");
    assert_eq!(repr(b"(c__builtin__\nbytes\n)R."), "b''");
}

#[test]
fn integers_of_any_length() {
    assert_eq!(repr(b"\x80\x02\x8a\x00."), "0");
    assert_eq!(repr(b"\x80\x02\x8a\x01\xff."), "-1");
    assert_eq!(
        repr(b"\x80\x02\x8a\x09\0\0\0\0\0\0\0\x80\0."),
        "9223372036854775808"
    );
    assert_eq!(
        repr(b"L1180591620717411303424L\n."),
        "1180591620717411303424"
    );
    assert_eq!(repr(b"L-5L\n."), "-5");
    assert_eq!(
        repr(b"\x80\x02\x8a\x09\xff\xff\xff\xff\xff\xff\xff\x7f\0."),
        i64::MAX.to_string()
    );
}

#[test]
fn calls_are_recorded_and_never_made() {
    let pickle = parse(b"cmy.module\nThing\n(K\x01tR}(X\x01\0\0\0aK\x02ub.");
    let PickleNode::Call(call) = pickle.node(pickle.root()) else {
        panic!("{:?}", pickle.node(pickle.root()));
    };
    assert_eq!(pickle.global(call.callable), Some(("my.module", "Thing")));
    assert!(call.state.is_some());
}

#[test]
fn dangerous_names_are_refused() {
    let shell = b"cposix\nsystem\n(X\x02\0\0\0lstR.";
    assert_eq!(
        Pickle::parse(shell).unwrap_err().to_string(),
        "the pickle names `posix.system`, which a checkpoint has no business calling; refusing to read it"
    );
    let stack_global = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.";
    assert!(matches!(
        Pickle::parse(stack_global).unwrap_err(),
        PickleError::Forbidden { name } if name == "builtins.eval"
    ));
    assert!(Pickle::parse(b"(S'ls'\nios\nsystem\n.").is_err());
    assert!(Pickle::parse(b"(cos\nsystem\nS'ls'\no.").is_err());
}

/// What a person passes to a network and Python cannot write as plain data.
#[test]
fn objects_among_the_values_stay_opaque() {
    for (bytes, expected) in [
        // A bound method: getattr(Loss(), 'forward').
        (
            &b"c__builtin__\ngetattr\n(cmy.losses\nLoss\n)\x81Vforward\ntR."[..],
            "<attribute 'forward' of <my.losses.Loss object>>",
        ),
        (
            b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x04loss\x8c\x05Inner\x93\x8c\x01f\x86R.",
            "<attribute 'f' of <class 'loss.Inner'>>",
        ),
        // A partial function: the state follows the call.
        (
            b"cfunctools\npartial\n(ctorch\nclamp\ntR(ctorch\nclamp\n(t}Ntb.",
            "<functools.partial object>",
        ),
        (b"cmy.kinds\nKind\n(I2\ntR.", "<my.kinds.Kind object>"),
        (b"ctorch.nn.functional\nsilu\n.", "<class 'torch.nn.functional.silu'>"),
        // A lambda, as dill and cloudpickle write it.
        (
            b"cdill._dill\n_create_function\n(cdill._dill\n_create_code\n(I1\ntRtR.",
            "<dill._dill._create_function object>",
        ),
        (
            b"ccloudpickle.cloudpickle\n_make_function\n(ccloudpickle.cloudpickle\nsubimport\n(Vnumpy\ntRtR.",
            "<cloudpickle.cloudpickle._make_function object>",
        ),
        (b"cnumpy\ndtype\n(Vf8\nI00\nI01\ntR(I3\nV<\nNNNI-1\nI-1\nI0\ntb.", "<numpy.dtype object>"),
    ] {
        assert_eq!(repr(bytes), expected);
    }
    // A dict's subclass, filled by key, is read as a dict.
    let pickle = parse(b"cmy.config\nAttributes\n)\x81(Va\nI1\nVb\n]u.");
    assert_eq!(pickle.json(pickle.root()).to_string(), "{\"a\":1,\"b\":[]}");
}

#[test]
fn attributes_that_lead_to_the_interpreter_are_refused() {
    for bytes in [
        &b"cbuiltins\ngetattr\n(cmy.losses\nLoss\nV__globals__\ntR."[..],
        b"c__builtin__\ngetattr\n(c__builtin__\nobject\nV__subclasses__\ntR.",
        b"cdill._dill\n_import_module\n(Vos\ntR.",
        b"ccloudpickle.cloudpickle\nsubimport\n(Vsubprocess\ntR.",
    ] {
        let error = Pickle::parse(bytes).unwrap_err();
        assert!(matches!(error, PickleError::Forbidden { .. }), "{error}");
    }
}

#[test]
fn bombs_hit_a_limit() {
    let wide = vec![b'N'; MAX_NODES + 1];
    assert!(matches!(
        Pickle::parse(&wide),
        Err(PickleError::TooLarge {
            limit: MAX_NODES,
            ..
        })
    ));
    // A text that claims 4 GiB.
    assert!(matches!(
        Pickle::parse(b"X\xff\xff\xff\xffabc."),
        Err(PickleError::Truncated { .. })
    ));
    assert!(Pickle::parse(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc.").is_err());
    // A million nested lists neither parse recursively nor print for ever.
    let mut deep = vec![b']'; 1_000_000];
    deep.extend(vec![b'a'; 999_999]);
    deep.push(b'.');
    let pickle = parse(&deep);
    assert!(pickle.repr(pickle.root()).len() < 10_000);
    assert!(pickle.json(pickle.root()).to_string().len() < 10_000);
    // 30 levels of "twice the one before".
    let mut laughs = b"]q\x00".to_vec();
    for level in 0..30u8 {
        laughs.extend([b']', b'q', level + 1, b'(', b'h', level, b'h', level, b'e']);
    }
    laughs.push(b'.');
    let pickle = parse(&laughs);
    assert!(pickle.json(pickle.root()).to_string().len() < 10_000_000);
    // A list that contains itself.
    let pickle = parse(b"]q\x00h\x00a.");
    assert!(pickle.repr(pickle.root()).len() < 10_000);
}

#[test]
fn malformed_streams_are_errors() {
    for bytes in [
        &b""[..],
        b".",
        b"t.",
        b"a.",
        b"(.",
        b"K",
        b"K\x01a.",
        b"K\x01K\x02K\x03s.",
        b"h\x05.",
        b"gabc\n.",
        b"\xff.",
        b"\x80\x09.",
        b"Iabc\n.",
        b"F?\n.",
        b"S'a\n.",
        b"V\\u12\n.",
        b"(K\x01d.",
        b"\x82\x01.",
        b"\x97.",
        b"\x8b\xff\xff\xff\xff.",
        b"(o.",
        b"X\x01",
    ] {
        assert!(Pickle::parse(bytes).is_err(), "{bytes:?}");
    }
}
