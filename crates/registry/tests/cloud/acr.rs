//! Azure Container Registry.

use skycap_registry::cloud::acr::{Acr, Cloud as Azure};
use skycap_testkit::registry::{Reply, Request};

use crate::{Cloud, around, fields, json, user_and_password};

const REGISTRY: &str = "example.azurecr.io";
const METADATA: &str = "169.254.169.254";

fn acr() -> Acr {
    Acr { registry: REGISTRY.to_owned(), client_id: None, tenant: None, cloud: None, plain_http: false }
}

/// The registry: names its tenant, exchanges a token for one of its own.
fn registry(request: &Request, tenant: &str) -> Reply {
    if request.path == "/v2/" {
        let challenge =
            format!(r#"Bearer realm="https://{REGISTRY}/oauth2/token?tenant={tenant}",service="{REGISTRY}""#);
        return Reply::status(401).header("www-authenticate", challenge);
    }
    assert_eq!(request.line(), "POST /oauth2/exchange");
    let asked = fields(&request.body);
    assert_eq!((&*asked["grant_type"], &*asked["service"]), ("access_token", REGISTRY));
    assert_eq!((&*asked["tenant"], &*asked["access_token"]), (tenant, "hunter2-entra"));
    json(r#"{"refresh_token":"hunter2-refresh"}"#)
}

#[test]
fn the_identity_of_the_machine_is_exchanged_at_the_registry() {
    let cloud = Cloud::new(&[REGISTRY, METADATA], |request| {
        if request.header("host") == Some(REGISTRY) {
            return registry(request, "contoso");
        }
        assert_eq!((request.header("metadata"), &*request.path), (Some("true"), "/metadata/identity/oauth2/token"));
        let asked = fields(request.query.as_bytes());
        assert_eq!((&*asked["resource"], &*asked["api-version"]), ("https://management.azure.com/", "2018-02-01"));
        assert_eq!(asked.get("client_id"), None);
        json(r#"{"access_token":"hunter2-entra","expires_in":"3600"}"#)
    });
    let login = acr().login(&cloud.client, &around(&[])).unwrap();
    assert_eq!(login.registry, REGISTRY);
    assert_eq!(user_and_password(&login.credentials), ("00000000-0000-0000-0000-000000000000", "hunter2-refresh"));
}

#[test]
fn client_tenant_and_cloud_are_used_as_told() {
    let cloud = Cloud::new(&[REGISTRY, METADATA], |request| {
        if request.header("host") == Some(REGISTRY) {
            return registry(request, "told");
        }
        let asked = fields(request.query.as_bytes());
        assert_eq!((&*asked["resource"], &*asked["client_id"]), ("https://management.chinacloudapi.cn/", "me"));
        json(r#"{"access_token":"hunter2-entra"}"#)
    });
    let told = Acr { client_id: Some("me".into()), tenant: Some("told".into()), cloud: Some(Azure::China), ..acr() };
    told.login(&cloud.client, &around(&[])).unwrap();
    let registry_asked = cloud.asked().iter().filter(|line| line.ends_with("/v2/")).count();
    assert_eq!(registry_asked, 0, "nobody has to ask for the tenant");
}

#[test]
fn a_service_that_runs_us_gives_its_identity() {
    let cloud = Cloud::new(&[REGISTRY, "localhost:42356"], |request| {
        if request.header("host") == Some(REGISTRY) {
            return registry(request, "contoso");
        }
        assert_eq!(request.header("x-identity-header"), Some("hunter2-header"));
        assert_eq!(fields(request.query.as_bytes())["api-version"], "2019-08-01");
        json(r#"{"access_token":"hunter2-entra"}"#)
    });
    let endpoint = ("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token");
    acr().login(&cloud.client, &around(&[endpoint, ("IDENTITY_HEADER", "hunter2-header")])).unwrap();
}

#[test]
fn a_workload_identity_is_exchanged_for_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "hunter2-assertion").unwrap();
    let cloud = Cloud::new(&[REGISTRY, "login.microsoftonline.com"], |request| {
        if request.header("host") == Some(REGISTRY) {
            return registry(request, "contoso");
        }
        assert_eq!(request.line(), "POST /the-tenant/oauth2/v2.0/token");
        let asked = fields(&request.body);
        assert_eq!((&*asked["client_id"], &*asked["client_assertion"]), ("the-client", "hunter2-assertion"));
        assert_eq!(asked["scope"], "https://management.azure.com/.default");
        json(r#"{"access_token":"hunter2-entra"}"#)
    });
    let around = around(&[
        ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
        ("AZURE_CLIENT_ID", "the-client"),
        ("AZURE_TENANT_ID", "the-tenant"),
    ]);
    acr().login(&cloud.client, &around).unwrap();
}

#[test]
fn who_has_no_identity_is_told_what_is_needed() {
    let cloud = Cloud::new(&[REGISTRY, METADATA], |_| {
        Reply::status(400).body(r#"{"error":"invalid_request","error_description":"Identity not found"}"#)
    });
    let error = acr().login(&cloud.client, &around(&[])).unwrap_err().to_string();
    assert!(error.starts_with("no Azure identity: ") && error.contains("Identity not found"), "{error}");
    assert!(error.contains("AZURE_FEDERATED_TOKEN_FILE"), "{error}");
}

#[test]
fn an_identity_that_the_registry_does_not_know_is_said() {
    let cloud = Cloud::new(&[REGISTRY, METADATA], |request| {
        let is_metadata = request.header("host") == Some(METADATA);
        if is_metadata { json(r#"{"access_token":"hunter2-entra"}"#) } else { Reply::status(403).body("no") }
    });
    let error = Acr { tenant: Some("t".into()), ..acr() }.login(&cloud.client, &around(&[])).unwrap_err().to_string();
    assert!(error.starts_with("the registry does not accept this identity: "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}
