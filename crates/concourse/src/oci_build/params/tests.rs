//! What the two forms come to.

use skycap_build::attest::Mode;
use skycap_image::{Compression, Secret};

use super::environment::spellings;
use super::{Login, Params, SecretSource};
use crate::{Environment, Failure};

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().copied().collect()
}

fn params(variables: &[(&str, &str)]) -> Result<Params, String> {
    Params::from_environment(&environment(variables)).map_err(|failure| failure.message)
}

#[test]
fn spellings_are_tried_in_byte_order() -> Result<(), String> {
    for name in ["UNPACKROOTFS", "UNPACK_ROOTFS", "unpack_rootfs", "unpackrootfs"] {
        assert!(params(&[(name, "1")])?.unpack_rootfs, "{name}");
    }
    assert_eq!(params(&[("TARGET", "a"), ("target", "b")])?.target, "a");
    assert_eq!(params(&[("TARGET", ""), ("target", "b")])?.target, "b");
    assert_eq!(params(&[("TARGETFILE", "a"), ("TARGET_FILE", "b")])?.target_file, Some("a".into()));
    // These have one spelling.
    let one =
        params(&[("context", "a"), ("dockerfile", "b"), ("additional_targets", "c"), ("buildkit_add_hosts", "d")])?;
    assert_eq!(one, Params::default());
    Ok(())
}

#[test]
fn booleans_are_gos() -> Result<(), String> {
    for (text, expected) in
        [("1", true), ("t", true), ("True", true), ("TRUE", true), ("0", false), ("F", false), ("", false)]
    {
        assert_eq!(params(&[("OUTPUT_OCI", text)])?.output_oci, expected, "{text}");
    }
    let expected = "failed to parse config from env: envconfig: unable to parse value \"yes\" for possible keys \
                    [OUTPUTOCI OUTPUT_OCI output_oci outputoci]. err=strconv.ParseBool: parsing \"yes\": invalid syntax";
    assert_eq!(params(&[("OUTPUT_OCI", "yes")]), Err(expected.to_owned()));
    Ok(())
}

#[test]
fn arguments_come_in_the_order_that_decides() -> Result<(), String> {
    let found = params(&[
        ("BUILD_ARGS", "a=0,b={1,2}"),
        ("BUILD_ARG_a", "x y\nz"),
        ("BUILD_ARG_empty", ""),
        ("BUILD_ARGS_FILE", "args.yml"),
        ("LABEL_org.example", "l"),
        ("LABELS", "a=b"),
        ("LABELS_FILE", "labels"),
        ("IMAGE_ARG_First", "image.tar"),
        ("ADDITIONAL_TARGETS", "a,"),
    ])?;
    assert_eq!(found.build_args, ["a=0", "b={1,2}", "a=x y\nz", "empty="]);
    assert_eq!(found.labels, ["a=b", "org.example=l"]);
    assert_eq!(found.image_args, ["First=image.tar"]);
    assert_eq!(found.additional_targets, ["a", ""]);
    assert_eq!(found.labels_file, Some("labels".into()));
    Ok(())
}

#[test]
fn several_platforms_are_an_oci_layout() -> Result<(), String> {
    assert!(params(&[("IMAGE_PLATFORM", "linux/amd64,linux/arm64")])?.output_oci);
    assert!(!params(&[("IMAGE_PLATFORM", "linux/arm64")])?.output_oci);
    Ok(())
}

#[test]
fn a_map_of_secrets_is_refused_in_every_spelling() {
    for name in spellings("BUILDKIT_SECRETS") {
        assert_eq!(params(&[(&name, "x")]).err().as_deref(), Some("BUILDKIT_SECRETS cannot hold secrets"), "{name}");
    }
}

#[test]
fn a_login_is_read_whole() -> Result<(), String> {
    let login = |variables: &[(&str, &str)]| params(variables).map(|params| params.login);
    let amazon = |region: &str, accounts: &[&str]| {
        let accounts = accounts.iter().map(|account| (*account).to_owned()).collect();
        Some(Login::Amazon { region: region.to_owned(), accounts })
    };
    assert_eq!(login(&[("LOGIN", "no"), ("PASS", "x")])?, None);
    assert_eq!(login(&[("LOGIN", "Ecr")])?, amazon("eu-west-1", &[]));
    assert_eq!(login(&[("LOGIN", "ECR"), ("REGION", ""), ("AWS_REGION", "r")])?, amazon("r", &[]));
    assert!(login(&[("LOGIN", "ECR"), ("REGION", "")]).is_err());
    assert_eq!(login(&[("LOGIN", "ECR"), ("REGION", "r"), ("REGISTRIES", " 1, 2,")])?, amazon("r", &["1", "2"]));
    assert!(login(&[("LOGIN", "ECR"), ("REGISTRIES", "evil.example/")]).is_err());
    for (url, expected) in [
        ("", "index.docker.io"),
        ("https://index.docker.io/v1/", "index.docker.io"),
        ("r.io:5000", "r.io:5000"),
        ("http://r.io/v2/", "r.io"),
    ] {
        let variables = [("LOGIN", "pass"), ("PASS", "me:hunter2:x"), ("REG_URL", url)];
        let (registry, username) = (expected.to_owned(), "me".to_owned());
        let password = Secret::new("hunter2:x");
        assert_eq!(login(&variables)?, Some(Login::Password { registry, username, password }), "{url}");
    }
    for (variables, expected) in [
        (&[("LOGIN", "PASS")][..], "LOGIN=PASS: PASS env var not set"),
        (&[("LOGIN", "PASS"), ("PASS", "hunter2")], "LOGIN=PASS: PASS holds no colon"),
        (&[("LOGIN", "PASS"), ("PASS", "a:b"), ("REG_URL", "https://")], "REG_URL: \"https://\" is no registry"),
    ] {
        assert_eq!(login(variables).err().as_deref(), Some(expected));
    }
    Ok(())
}

#[test]
fn additions_are_read_and_checked() -> Result<(), String> {
    let found = params(&[
        ("BUILD_CONTEXT_base", "docker-image://x"),
        ("OUTPUT_OCI", "true"),
        ("OUTPUT_COMPRESSION", "zstd"),
        ("ATTEST_SBOM", "true"),
        ("ATTEST_PROVENANCE", "max"),
        ("https_proxy", "http://p"),
    ])?;
    assert_eq!(found.build_contexts, [("base".to_owned(), "docker-image://x".to_owned())].into());
    assert_eq!((found.compression, found.attest.sbom.is_some()), (Some(Compression::Zstd), true));
    assert_eq!(found.attest.provenance.map(|provenance| provenance.mode), Some(Mode::Max));
    assert_eq!(found.proxies.https.as_deref(), Some("http://p"));
    for variables in [
        &[("OUTPUT_COMPRESSION", "zstd")][..],
        &[("OUTPUT_COMPRESSION", "lz4")],
        &[("ATTEST_SBOM", "1")],
        &[("ATTEST_SBOM", "yes"), ("OUTPUT_OCI", "1")],
        &[("ATTEST_PROVENANCE", "most"), ("OUTPUT_OCI", "1")],
        &[("ATTEST_SBMO", "true"), ("OUTPUT_OCI", "1")],
        &[("SOURCE_DATE_EPOCH", "soon")],
    ] {
        assert!(params(variables).is_err(), "{variables:?}");
    }
    Ok(())
}

#[test]
fn secrets_are_files_and_texts() -> Result<(), String> {
    let found = params(&[("BUILDKIT_SECRET_a/b", "file"), ("BUILDKIT_SECRETTEXT_c", "hunter2")])?;
    assert_eq!(found.secrets.get("a/b"), Some(&SecretSource::File("file".into())));
    assert_eq!(found.secrets.get("c"), Some(&SecretSource::Text(Secret::new("hunter2"))));
    assert!(!format!("{found:?}").contains("hunter2"));
    Ok(())
}

#[test]
fn the_json_form_says_the_same() -> Result<(), Failure> {
    let text = br#"{"response_path":"/dev/null","config":{"Context":"c","build_args":["a=1"],"unpack_rootfs":true,"BUILDKIT_SSH":"default",
        "buildkit_secrets":{"Id":"path"},"image_platform":"linux/arm64","nonsense":1},"more":2}"#;
    let found = Params::from_request(text, &environment(&[("SOURCE_DATE_EPOCH", "7"), ("CONTEXT", "ignored")]))?;
    let expected = Params {
        context: "c".into(),
        build_args: vec!["a=1".to_owned()],
        unpack_rootfs: true,
        ssh: "default".to_owned(),
        secrets: [("Id".to_owned(), SecretSource::File("path".into()))].into(),
        image_platform: "linux/arm64".to_owned(),
        source_date_epoch: Some(7),
        response_path: Some("/dev/null".into()),
        ..Params::default()
    };
    assert_eq!(found, expected);
    for (text, expected) in [("{}", "read request: response_path is empty"), ("", "read request: EOF")] {
        let error = Params::from_request(text.as_bytes(), &Environment::default()).map_err(|f| f.message).err();
        assert_eq!(error.as_deref(), Some(expected), "{text}");
    }
    Ok(())
}
