use super::*;

fn resolve(value: &str) -> Result<Mount, String> {
    let env = |name: &str| (name == "DIR").then(|| "/cache".to_owned());
    let flag = MountFlag::parse(value, '\\').map_err(|error| error.to_string())?;
    flag.resolve(&mut |word| expand(word, '\\', &env)).map_err(|error| error.to_string())
}

#[test]
fn each_type_has_its_defaults() {
    let bind = resolve("source=a,target=/b").unwrap();
    assert_eq!((bind.kind, bind.read_only), (MountKind::Bind, true));
    assert_eq!((bind.source.as_deref(), bind.target.as_deref()), (Some("a"), Some("/b")));

    let cache = resolve("type=cache,target=$DIR/x,sharing=locked,id=i,uid=1,gid=2,mode=0700").unwrap();
    assert_eq!((cache.kind, cache.read_only, cache.sharing), (MountKind::Cache, false, Some(Sharing::Locked)));
    assert_eq!((cache.target.as_deref(), cache.id.as_deref()), (Some("/cache/x"), Some("i")));
    assert_eq!((cache.uid, cache.gid, cache.mode), (Some(1), Some(2), Some(0o700)));

    let tmpfs = resolve("TYPE=TMPFS,dst=/t,size=1.5g").unwrap();
    assert_eq!((tmpfs.kind, tmpfs.read_only, tmpfs.size), (MountKind::Tmpfs, false, Some(3 << 29)));

    let secret = resolve("type=secret,id=s,env=TOKEN,required").unwrap();
    assert_eq!((secret.kind, secret.required, secret.env.as_deref()), (MountKind::Secret, true, Some("TOKEN")));

    let secret = resolve("type=secret,source=s,target=/t").unwrap();
    assert_eq!((secret.id.as_deref(), secret.source), (Some("s"), None));

    let ssh = resolve("type=ssh,required=false").unwrap();
    assert_eq!((ssh.kind, ssh.required, ssh.read_only), (MountKind::Ssh, false, true));
}

#[test]
fn a_mount_may_be_turned_round() {
    for (value, read_only) in [
        ("target=/a,rw", false),
        ("target=/a,readwrite=true", false),
        ("target=/a,rw=false", true),
        ("target=/a,ro=0", false),
        ("type=cache,target=/a,readonly", true),
    ] {
        assert_eq!(resolve(value).map(|mount| mount.read_only), Ok(read_only), "{value}");
    }
}

#[test]
fn fields_are_csv() {
    let mount = resolve("\"source=a,b\",\"target=/\"\"q\"\"\"").unwrap();
    assert_eq!((mount.source.as_deref(), mount.target.as_deref()), (Some("a,b"), Some("/q")));
    for (value, message) in [
        ("", "failed to parse csv mounts: EOF"),
        ("a\"b", "failed to parse csv mounts: bare \" in non-quoted field"),
        ("\"a", "failed to parse csv mounts: extraneous or missing \" in quoted-field"),
        ("\"a\"b", "failed to parse csv mounts: extraneous or missing \" in quoted-field"),
    ] {
        assert_eq!(resolve(value), Err(message.to_owned()), "{value}");
    }
}

#[test]
fn faults_are_told_in_buildkits_words() {
    for (value, message) in [
        ("type=bnd", "unsupported mount type \"bnd\""),
        ("type=cache,sharing=lock", "unsupported sharing value \"lock\""),
        ("sauce=a", "unexpected key 'sauce' in 'sauce=a'"),
        ("source", "invalid field 'source' must be a key=value pair"),
        ("required,type=secret", "unexpected key 'required' for mount type 'bind'"),
        ("size=1m", "unexpected key 'size' for mount type 'bind'"),
        ("env=A", "unexpected key 'env' for mount type 'bind'"),
        ("type=tmpfs,size=x", "invalid value for size: x"),
        ("type=tmpfs,size=1.x", "invalid value for size: 1.x"),
        ("type=tmpfs,size=99999999999999999999", "invalid value for size: 99999999999999999999"),
        ("ro=maybe", "invalid value for ro: maybe"),
        ("type=cache,mode=9", "invalid value 9 for mode"),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        ("mode=0700", "mode not allowed for \"bind\" type mounts"),
        ("type=tmpfs,uid=1", "uid not allowed for \"tmpfs\" type mounts"),
        ("sharing=shared", "invalid cache sharing set for bind mount"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("from=$A", "'from' doesn't support variable expansion, define alias stage instead"),
        ("FROM=a$A", "'from' doesn't support variable expansion, define alias stage instead"),
        ("target='a", "failed to process \"'a\": unexpected end of statement while looking for matching single-quote"),
    ] {
        assert_eq!(resolve(value), Err(message.to_owned()), "{value}");
    }
    assert!(resolve("from=a$").is_ok());
    let hint = |value: &str| MountFlag::parse(value, '\\').unwrap_err().hint();
    assert_eq!(hint("type=bnd"), Some("did you mean bind?".to_owned()));
    assert_eq!(hint("sorce=a"), Some("did you mean source?".to_owned()));
    assert_eq!(hint("qqqqqq=a"), None);
}

#[test]
fn a_mount_with_variables_waits_for_them() {
    assert!(MountFlag::parse("type=$KIND,uid=1", '\\').is_ok());
    assert_eq!(resolve("type=$NONE"), Err("unsupported mount type \"\"".to_owned()));
}

#[test]
fn type_and_from_are_known_before_variables_are() {
    for (value, kind, from) in [
        ("target=$X", Some(MountKind::Bind), None),
        ("type=cache,from=a,target=$X", Some(MountKind::Cache), Some("a")),
        ("target=$X,from=a,from='b',TYPE=bind", Some(MountKind::Bind), Some("b")),
        ("type=$X,from=", None, None),
    ] {
        let flag = MountFlag::parse(value, '\\').unwrap();
        assert_eq!((flag.kind(), flag.from()), (kind, from), "{value}");
    }
}

#[test]
fn sizes_are_in_powers_of_1024() {
    for (text, expected) in [
        ("0", Some(0)),
        ("100", Some(100)),
        ("1k", Some(1024)),
        ("1KB", Some(1024)),
        ("2MiB", Some(2 << 20)),
        ("1 g", Some(1 << 30)),
        ("0.5k", Some(512)),
        ("1.", None),
        (".5k", None),
        ("k", None),
        ("-1", None),
        ("1kk", None),
    ] {
        assert_eq!(bytes(text), expected, "{text}");
    }
}
