//! Logins to clouds, from the source's fields to the registry: stand-ins for the token services, our own registry behind.

use std::net::SocketAddr;

use serde_json::{Value, json};
use skycap_concourse::{Kind, Settings};
use skycap_testkit::registry::{Reply, Scripted};

use crate::world::{IMAGE, World, settings};

const ECR_HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// A world whose registry and token services go by names of the clouds.
fn world(registries: &[&str], services: &[&str], tokens: &Scripted) -> World {
    let url = format!("http://{}", tokens.address());
    let map = |address: SocketAddr| -> Settings {
        let mut settings = settings();
        for name in registries {
            settings.hosts.insert((*name).to_owned(), format!("http://{address}"));
        }
        for name in services {
            settings.hosts.insert((*name).to_owned(), url.clone());
        }
        settings
    };
    World::with_settings(map)
}

/// ECR's answer: user `AWS`, password `hunter2-ecr`.
fn ecr() -> Scripted {
    Scripted::start(|request| {
        let target = request.header("x-amz-target").unwrap_or_default();
        assert!(target.ends_with(".GetAuthorizationToken"), "{target}");
        let signer = request.header("authorization").unwrap();
        assert!(signer.starts_with("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"), "{signer}");
        let endpoint = format!("https://{ECR_HOST}");
        Reply::status(200).body(
            json!({"authorizationData": [{"authorizationToken": "QVdTOmh1bnRlcjItZWNy", "proxyEndpoint": endpoint}]})
                .to_string(),
        )
    })
    .unwrap()
}

fn amazon() -> Value {
    json!({
        "repository": "app", "tag": "1", "aws_region": "eu-west-1",
        "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "hunter2-secret",
    })
}

#[test]
fn ecr_names_the_registry_for_check_get_and_put() {
    let tokens = ecr();
    let world = world(&[ECR_HOST], &["api.ecr.eu-west-1.amazonaws.com"], &tokens);
    let (_, digest) = world.push("app", IMAGE, &["1"]);
    let versions = world.check(Kind::RegistryImage, &json!({"source": amazon()})).unwrap();
    assert_eq!(versions, json!([{"tag": "1", "digest": digest}]));

    let request = json!({"source": amazon(), "version": versions[0], "params": {"format": "oci"}});
    let answer = world.get(Kind::RegistryImage, &request, "src/got").unwrap();
    assert_eq!(answer["metadata"][0]["value"], json!(format!("{ECR_HOST}/app")));
    assert_eq!(world.read("src/got/repository"), format!("{ECR_HOST}/app"));

    let mut source = amazon();
    source["tag"] = json!("2");
    world.put(&json!({"source": source, "params": {"image": "got/image.tar"}})).unwrap();
    assert_eq!(world.place("app").tags().unwrap(), ["1", "2"]);
    assert_eq!(tokens.lines(), ["POST /"; 3]);
}

#[test]
fn the_account_and_a_whole_name_decide_the_registry() {
    let tokens = ecr();
    let account = "999999999999.dkr.ecr.eu-west-1.amazonaws.com";
    let world = world(&[account, ECR_HOST], &["api.ecr.eu-west-1.amazonaws.com"], &tokens);
    world.push("app", IMAGE, &["1"]);
    for (field, value) in [("aws_account_id", "999999999999"), ("repository", &*format!("{account}/app"))] {
        let mut source = amazon();
        source[field] = json!(value);
        let versions = world.check(Kind::RegistryImage, &json!({"source": source})).unwrap();
        let request = json!({"source": source, "version": versions[0], "params": {"skip_download": true}});
        world.get(Kind::RegistryImage, &request, &format!("out/{field}")).unwrap();
        assert_eq!(world.read(&format!("out/{field}/repository")), format!("{account}/app"));
    }
}

#[test]
fn a_login_that_fails_is_said_and_nobody_else_is_asked() {
    let tokens = Scripted::start(|_| Reply::status(400).body(r#"{"__type":"InvalidSignatureException"}"#)).unwrap();
    let world = world(&[ECR_HOST], &["api.ecr.eu-west-1.amazonaws.com"], &tokens);
    let error = world.check(Kind::RegistryImage, &json!({"source": amazon()})).unwrap_err().message;
    assert!(error.starts_with("cannot authenticate with ECR: ECR gives no token: status 400"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let mut both = amazon();
    both["aws_role_arn"] = json!("a");
    both["aws_role_arns"] = json!(["b"]);
    let error = world.check(Kind::RegistryImage, &json!({"source": both})).unwrap_err().message;
    assert!(error.contains("`aws_role_arn` cannot be set at the same time as `aws_role_arns`"), "{error}");
}

#[test]
fn an_identity_of_azure_becomes_the_registrys_user() {
    let registry = "example.azurecr.io";
    let tokens = Scripted::start(|request| {
        assert!(request.query.contains("client_id=me"), "{}", request.query);
        Reply::status(200).body(r#"{"access_token":"hunter2-entra"}"#)
    })
    .unwrap();
    let exchange = Scripted::start(|request| match &*request.path {
        "/oauth2/exchange" => Reply::status(200).body(r#"{"refresh_token":"hunter2-refresh"}"#),
        _ if request.header("authorization").is_none() => {
            Reply::status(401).header("www-authenticate", "Basic realm=\"r\"")
        }
        path if path.ends_with("/manifests/1") => {
            Reply::status(200).header("content-type", "text/plain").body("{\"fake\":\"manifest\"}")
        }
        _ => Reply::status(200),
    })
    .unwrap();
    let url = format!("http://{}", exchange.address());
    let world = World::with_settings(|_| {
        let mut settings = settings();
        settings.hosts.insert(registry.to_owned(), url);
        settings.hosts.insert("169.254.169.254".to_owned(), format!("http://{}", tokens.address()));
        settings
    });
    let source = json!({
        "repository": format!("{registry}/app"), "tag": "1", "azure_acr": true, "azure_client_id": "me",
        "azure_tenant_id": "contoso", "azure_environment": "Moon",
    });
    world.check(Kind::RegistryImage, &json!({"source": source})).unwrap();
    assert!(world.log.has("azure_environment \"Moon\" is not AzurePublic"));
    let user = exchange.requests().iter().find_map(|request| request.header("authorization").map(str::to_owned));
    // The user of all zeros, and the token.
    let expected = "Basic MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOmh1bnRlcjItcmVmcmVzaA==";
    assert_eq!(user.as_deref(), Some(expected));
}

#[test]
fn an_identity_of_google_becomes_the_registrys_user() {
    let registry = "europe-docker.pkg.dev";
    let tokens = Scripted::start(|_| Reply::status(200).body(r#"{"access_token":"hunter2-access"}"#)).unwrap();
    let world = world(&[registry], &["metadata.google.internal"], &tokens);
    let (_, digest) = world.push("project/app", IMAGE, &["1"]);
    let source = json!({"repository": format!("{registry}/project/app"), "tag": "1", "google_auth": true});
    let versions = world.check(Kind::RegistryImage, &json!({"source": source})).unwrap();
    assert_eq!(versions, json!([{"tag": "1", "digest": digest}]));
    assert_eq!(tokens.lines().len(), 1);
}

#[test]
fn fields_that_do_nothing_are_said_and_stay_without_effect() {
    let world = World::new();
    world.push("app", IMAGE, &["1"]);
    let source = json!({
        "repository": world.name("app"), "tag": "1", "aws_access_key_id": "x", "aws_ecr_registry_id": "1",
        "azure_client_id": "y",
    });
    world.check(Kind::RegistryImage, &json!({"source": source})).unwrap();
    for text in [
        "aws_access_key_id does nothing without aws_region",
        "aws_ecr_registry_id is deprecated",
        "azure_client_id does nothing without azure_acr: true",
    ] {
        assert!(world.log.has(text), "{text}");
    }
}
