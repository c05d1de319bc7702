//! Google's registries.

use std::path::PathBuf;

use skycap_registry::cloud::google::login;
use skycap_testkit::registry::Reply;
use tempfile::TempDir;

use crate::{Cloud, around, fields, json, user_and_password};

fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("credentials.json");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn a_service_accounts_key_goes_to_the_registry_as_it_is() {
    let key = r#"{"type":"service_account","project_id":"p","private_key":"hunter2-key"}"#;
    let (_dir, path) = file(key);
    let cloud = Cloud::new(&[], |_| Reply::status(500));
    let around = around(&[("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())]);
    let credentials = login(&cloud.client, &around).unwrap();
    assert_eq!(user_and_password(&credentials), ("_json_key", key));
    assert!(cloud.asked().is_empty());
}

#[test]
fn the_metadata_server_gives_the_workloads_token() {
    let cloud = Cloud::new(&["metadata.google.internal"], |request| {
        assert_eq!(request.header("metadata-flavor"), Some("Google"));
        assert_eq!(request.path, "/computeMetadata/v1/instance/service-accounts/default/token");
        json(r#"{"access_token":"hunter2-access","expires_in":3599,"token_type":"Bearer"}"#)
    });
    let credentials = login(&cloud.client, &around(&[])).unwrap();
    assert_eq!(user_and_password(&credentials), ("oauth2accesstoken", "hunter2-access"));
}

const FEDERATION: &str = r#"{
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/ci",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/x:generateAccessToken",
    "credential_source": SOURCE
}"#;

#[test]
fn a_federated_identity_is_exchanged_and_becomes_a_service_account() {
    let (_subject_dir, subject) = file(r#"{"id_token":"hunter2-subject"}"#);
    let source = format!(
        r#"{{"file":"{}","format":{{"type":"json","subject_token_field_name":"id_token"}}}}"#,
        subject.display()
    );
    let (_dir, path) = file(&FEDERATION.replace("SOURCE", &source));
    let cloud = Cloud::new(&["sts.googleapis.com", "iamcredentials.googleapis.com"], |request| {
        if request.header("host") == Some("sts.googleapis.com") {
            let asked = fields(&request.body);
            assert_eq!(asked["grant_type"], "urn:ietf:params:oauth:grant-type:token-exchange");
            assert!(asked["audience"].ends_with("/providers/ci"));
            assert_eq!(asked["subject_token"], "hunter2-subject");
            return json(r#"{"access_token":"hunter2-federated"}"#);
        }
        assert_eq!(request.header("authorization"), Some("Bearer hunter2-federated"));
        json(r#"{"accessToken":"hunter2-impersonated","expireTime":"2099-01-01T00:00:00Z"}"#)
    });
    let around = around(&[("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())]);
    let credentials = login(&cloud.client, &around).unwrap();
    assert_eq!(user_and_password(&credentials), ("oauth2accesstoken", "hunter2-impersonated"));
}

#[test]
fn a_subject_token_may_lie_behind_a_url() {
    let source = r#"{"url":"http://tokens.internal/ci","headers":{"x-request":"1"}}"#;
    let text = FEDERATION.replace("SOURCE", source).replace("service_account_impersonation_url", "unused");
    let (_dir, path) = file(&text);
    let cloud = Cloud::new(&["sts.googleapis.com", "tokens.internal"], |request| {
        if request.header("host") == Some("tokens.internal") {
            assert_eq!((request.line().as_str(), request.header("x-request")), ("GET /ci", Some("1")));
            return Reply::status(200).body("hunter2-subject\n");
        }
        assert_eq!(fields(&request.body)["subject_token"], "hunter2-subject");
        json(r#"{"access_token":"hunter2-federated"}"#)
    });
    let around = around(&[("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())]);
    assert_eq!(user_and_password(&login(&cloud.client, &around).unwrap()).1, "hunter2-federated");
}

#[test]
fn a_persons_login_is_renewed() {
    let (_dir, path) =
        file(r#"{"type":"authorized_user","client_id":"c","client_secret":"hunter2-s","refresh_token":"hunter2-r"}"#);
    let cloud = Cloud::new(&["oauth2.googleapis.com"], |request| {
        let asked = fields(&request.body);
        assert_eq!((&*asked["grant_type"], &*asked["refresh_token"]), ("refresh_token", "hunter2-r"));
        json(r#"{"access_token":"hunter2-access"}"#)
    });
    let around = around(&[("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())]);
    assert_eq!(user_and_password(&login(&cloud.client, &around).unwrap()).1, "hunter2-access");
}

#[test]
fn what_cannot_be_used_is_said_without_showing_it() {
    let cloud = Cloud::new(&["sts.googleapis.com"], |_| Reply::status(200).body("hunter2-nonsense"));
    let source = r#"{"environment_id":"aws1"}"#;
    for text in [r#"{"type":"gdch","private_key":"hunter2"}"#, "hunter2", &FEDERATION.replace("SOURCE", source)] {
        let (_dir, path) = file(text);
        let around = around(&[("GOOGLE_APPLICATION_CREDENTIALS", path.to_str().unwrap())]);
        let error = login(&cloud.client, &around).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let missing = around(&[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")]);
    assert!(login(&cloud.client, &missing).unwrap_err().to_string().contains("/nowhere/key.json"));
}
