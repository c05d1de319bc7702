//! Amazon ECR.

use skycap_image::{Kind, Secret};
use skycap_registry::cloud::ecr::{Ecr, Keys};
use skycap_testkit::registry::{Reply, Request};

use crate::sigv4::Claim;
use crate::{Cloud, around, fields, json, user_and_password};

const ECR: &str = "api.ecr.eu-west-1.amazonaws.com";
const STS: &str = "sts.eu-west-1.amazonaws.com";
const PUBLIC: &str = "api.ecr-public.us-east-1.amazonaws.com";
const METADATA: &str = "169.254.169.254";
const POD: &str = "169.254.170.23";

const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "hunter2/secret+key";

fn ecr() -> Ecr {
    let keys = Keys { id: KEY.to_owned(), secret: Secret::new(SECRET), session: None };
    Ecr { region: "eu-west-1".to_owned(), keys: Some(keys), roles: Vec::new(), account: None, public: false }
}

fn from_chain() -> Ecr {
    Ecr { keys: None, ..ecr() }
}

/// A token for whoever signs with one of these pairs of keys.
fn token_for(request: &Request, keys: &[(&str, &str)]) -> Reply {
    let claim = Claim::of(request);
    let secret = keys.iter().find(|(key, _)| *key == claim.key).map(|(_, secret)| *secret);
    if !secret.is_some_and(|secret| claim.is_signed_with(secret, request)) {
        let body = r#"{"__type":"com.amazon#UnrecognizedClientException","message":"the security token is invalid"}"#;
        return Reply::status(400).body(body);
    }
    assert_eq!((&*claim.region, &*claim.service), ("eu-west-1", "ecr"));
    assert_eq!(request.header("x-amz-target"), Some("AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"));
    assert_eq!(request.header("content-type"), Some("application/x-amz-json-1.1"));
    assert_eq!(request.body, b"{}");
    assert_ne!(request.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
    // AWS:hunter2-ecr
    json(
        r#"{"authorizationData":[{"authorizationToken":"QVdTOmh1bnRlcjItZWNy","expiresAt":1.7e9,"proxyEndpoint":"https://123456789012.dkr.ecr.eu-west-1.amazonaws.com"}]}"#,
    )
}

fn assumed(key: &str, secret: &str) -> Reply {
    Reply::status(200).body(format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>session-of-{key}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ))
}

#[test]
fn static_keys_sign_the_request_for_a_token() {
    let cloud = Cloud::new(&[ECR], |request| token_for(request, &[(KEY, SECRET)]));
    let login = ecr().login(&cloud.client, &around(&[])).unwrap();
    assert_eq!(login.registry, "123456789012.dkr.ecr.eu-west-1.amazonaws.com");
    assert_eq!(user_and_password(&login.credentials), ("AWS", "hunter2-ecr"));
    assert_eq!(cloud.asked(), [format!("POST {ECR}/")]);
}

#[test]
fn the_account_decides_the_registry() {
    let cloud = Cloud::new(&[ECR], |request| token_for(request, &[(KEY, SECRET)]));
    let login = Ecr { account: Some("999999999999".to_owned()), ..ecr() }.login(&cloud.client, &around(&[])).unwrap();
    assert_eq!(login.registry, "999999999999.dkr.ecr.eu-west-1.amazonaws.com");
}

#[test]
fn a_session_token_goes_along_and_is_signed() {
    let cloud = Cloud::new(&[ECR], |request| {
        assert_eq!(request.header("x-amz-security-token"), Some("hunter2-session"));
        token_for(request, &[(KEY, SECRET)])
    });
    let keys = Keys { id: KEY.into(), secret: Secret::new(SECRET), session: Some(Secret::new("hunter2-session")) };
    Ecr { keys: Some(keys), ..ecr() }.login(&cloud.client, &around(&[])).unwrap();
}

#[test]
fn roles_are_assumed_one_after_the_other() {
    let roles = ["arn:aws:iam::111111111111:role/first", "arn:aws:iam::222222222222:role/second"];
    let cloud = Cloud::new(&[ECR, STS], move |request| {
        let pairs = [(KEY, SECRET), ("ASIAFIRSTFIRSTFIRST1", "first"), ("ASIASECONDSECOND0002", "second")];
        if request.header("host") == Some(ECR) {
            return token_for(request, &pairs[2..]);
        }
        let asked = fields(if request.body.is_empty() { request.query.as_bytes() } else { &request.body });
        assert_eq!((&*asked["Action"], &*asked["RoleSessionName"]), ("AssumeRole", "skycap"));
        let number = roles.iter().position(|role| *role == asked["RoleArn"]).unwrap();
        let claim = Claim::of(request);
        assert_eq!((&*claim.key, &*claim.service), (pairs[number].0, "sts"));
        assert!(claim.is_signed_with(pairs[number].1, request));
        assumed(pairs[number + 1].0, pairs[number + 1].1)
    });
    let login = Ecr { roles: roles.map(str::to_owned).to_vec(), ..ecr() }.login(&cloud.client, &around(&[])).unwrap();
    assert_eq!(user_and_password(&login.credentials).1, "hunter2-ecr");
    assert_eq!(cloud.asked().len(), 3);
}

#[test]
fn a_role_that_may_not_be_assumed_is_named_with_the_reason() {
    let cloud = Cloud::new(&[ECR, STS], |_| {
        let error = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>";
        Reply::status(403).body(error)
    });
    let role = "arn:aws:iam::111111111111:role/first";
    let error = Ecr { roles: vec![role.to_owned()], ..ecr() }.login(&cloud.client, &around(&[])).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind, Kind::Denied, "{text}");
    assert!(text.contains(role) && text.contains("AccessDenied") && !text.contains("hunter2"), "{text}");
}

#[test]
fn the_environment_is_the_first_of_the_chain() {
    let cloud = Cloud::new(&[ECR], |request| token_for(request, &[(KEY, SECRET)]));
    let around = around(&[("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)]);
    from_chain().login(&cloud.client, &around).unwrap();
}

#[test]
fn shared_configuration_is_read_below_home() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let text = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(home.path().join(".aws/credentials"), text).unwrap();
    let cloud = Cloud::new(&[ECR], |request| token_for(request, &[(KEY, SECRET)]));
    from_chain().login(&cloud.client, &around(&[("HOME", home.path().to_str().unwrap())])).unwrap();
}

#[test]
fn a_web_identity_is_exchanged_at_sts() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hunter2-web-identity\n").unwrap();
    let role = "arn:aws:iam::111111111111:role/web";
    let cloud = Cloud::new(&[ECR, STS], move |request| {
        if request.header("host") == Some(ECR) {
            return token_for(request, &[("ASIAWEBWEBWEBWEBWEB1", "web")]);
        }
        assert_eq!(request.header("authorization"), None);
        let asked = fields(if request.body.is_empty() { request.query.as_bytes() } else { &request.body });
        assert_eq!(asked["Action"], "AssumeRoleWithWebIdentity");
        assert_eq!((&*asked["RoleArn"], &*asked["WebIdentityToken"]), (role, "hunter2-web-identity"));
        Reply::status(200).body("<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAWEBWEBWEBWEBWEB1</AccessKeyId><SecretAccessKey>web</SecretAccessKey><SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>")
    });
    let around = around(&[("AWS_ROLE_ARN", role), ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap())]);
    from_chain().login(&cloud.client, &around).unwrap();
}

#[test]
fn a_pod_identity_is_asked_for_with_the_token_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hunter2-pod").unwrap();
    let cloud = Cloud::new(&[ECR, POD], |request| {
        if request.header("host") == Some(ECR) {
            return token_for(request, &[("ASIAPODPODPODPODPOD1", "pod")]);
        }
        assert_eq!(request.header("authorization"), Some("hunter2-pod"));
        json(
            r#"{"AccessKeyId":"ASIAPODPODPODPODPOD1","SecretAccessKey":"pod","Token":"session","Expiration":"2099-01-01T00:00:00Z"}"#,
        )
    });
    let around = around(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
    ]);
    from_chain().login(&cloud.client, &around).unwrap();
    assert_eq!(cloud.asked(), [format!("GET {POD}/v1/credentials"), format!("POST {ECR}/")]);
}

#[test]
fn the_role_of_the_machine_is_the_last_of_the_chain() {
    let cloud = Cloud::new(&[ECR, METADATA], |request| match (&*request.method, &*request.path) {
        ("PUT", "/latest/api/token") => Reply::status(200).body("metadata-token"),
        ("GET", path) => {
            assert_eq!(request.header("x-aws-ec2-metadata-token"), Some("metadata-token"));
            if path.ends_with("/the-role") {
                json(
                    r#"{"Code":"Success","AccessKeyId":"ASIAMACHINEMACHINE01","SecretAccessKey":"machine","Token":"session","Expiration":"2099-01-01T00:00:00Z"}"#,
                )
            } else {
                Reply::status(200).body("the-role")
            }
        }
        _ => token_for(request, &[("ASIAMACHINEMACHINE01", "machine")]),
    });
    from_chain().login(&cloud.client, &around(&[])).unwrap();
}

#[test]
fn nobody_at_all_is_explained() {
    let cloud = Cloud::new(&[ECR], |_| Reply::status(500));
    let error = from_chain().login(&cloud.client, &around(&[("AWS_EC2_METADATA_DISABLED", "true")])).unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert!(error.to_string().starts_with("no AWS credentials: no keys were given"), "{error}");
    assert!(cloud.asked().is_empty());
}

#[test]
fn a_refused_token_says_why_and_what_is_needed() {
    let cloud = Cloud::new(&[ECR], |request| token_for(request, &[]));
    let error = ecr().login(&cloud.client, &around(&[])).unwrap_err().to_string();
    assert!(error.contains("UnrecognizedClientException: the security token is invalid"), "{error}");
    assert!(error.contains("ecr:GetAuthorizationToken") && !error.contains("hunter2"), "{error}");
}

#[test]
fn an_empty_authorization_is_an_error_and_no_panic() {
    for body in [r#"{"authorizationData":[]}"#, "{}", r#"{"authorizationData":[{"authorizationToken":"?"}]}"#, "<html>"]
    {
        let cloud = Cloud::new(&[ECR], move |_| json(body));
        assert!(ecr().login(&cloud.client, &around(&[])).is_err(), "{body}");
    }
}

#[test]
fn a_service_that_stumbles_is_asked_again() {
    let cloud =
        Cloud::new(
            &[ECR],
            |request| {
                if request.seen == 0 { Reply::status(503) } else { token_for(request, &[(KEY, SECRET)]) }
            },
        );
    ecr().login(&cloud.client, &around(&[])).unwrap();
    assert_eq!(cloud.asked().len(), 2);
}

#[test]
fn the_public_registry_gives_its_token_in_one_region() {
    let cloud = Cloud::new(&[PUBLIC], |request| {
        let claim = Claim::of(request);
        assert!(claim.is_signed_with(SECRET, request));
        assert_eq!((&*claim.region, &*claim.service), ("us-east-1", "ecr-public"));
        assert_eq!(request.header("x-amz-target"), Some("SpencerFrontendService.GetAuthorizationToken"));
        json(r#"{"authorizationData":{"authorizationToken":"QVdTOmh1bnRlcjItZWNy","expiresAt":1.7e9}}"#)
    });
    let login = Ecr { public: true, ..ecr() }.login(&cloud.client, &around(&[])).unwrap();
    assert_eq!((&*login.registry, user_and_password(&login.credentials).0), ("public.ecr.aws", "AWS"));
}

#[test]
fn china_has_names_of_its_own() {
    let cloud = Cloud::new(&["api.ecr.cn-north-1.amazonaws.com.cn"], |request| {
        assert!(Claim::of(request).is_signed_with(SECRET, request));
        json(r#"{"authorizationData":[{"authorizationToken":"QVdTOmh1bnRlcjItZWNy"}]}"#)
    });
    let ecr = Ecr { region: "cn-north-1".into(), account: Some("1".into()), ..ecr() };
    assert_eq!(ecr.login(&cloud.client, &around(&[])).unwrap().registry, "1.dkr.ecr.cn-north-1.amazonaws.com.cn");
}

#[test]
fn a_region_cannot_name_a_host() {
    let cloud = Cloud::new(&[], |_| Reply::status(200));
    for region in ["", "eu-west-1.evil.com/", "EU", "a b"] {
        let error = Ecr { region: region.into(), ..ecr() }.login(&cloud.client, &around(&[])).unwrap_err();
        assert!(error.to_string().contains("is not an AWS region"), "{error}");
    }
}
