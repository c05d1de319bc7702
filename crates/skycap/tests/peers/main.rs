//! The same body of tests against every place that can hold an image: our own kinds, our own registry, other people's
//! registry in every way of letting clients in. A peer whose program is not installed is skipped with the reason.
//!
//! Which bodies a peer must pass follows from what it is: an archive holds one image, Docker's archive no manifest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

mod artifacts;
mod body;
mod copies;
mod limits;
mod local;
mod process;
mod registries;
mod registry_body;
mod rooms;
mod tokens;

use rooms::{Open, Peer};

/// One test for every peer and body.
macro_rules! every {
    ($($peer:ident: $open:expr => [$($bodies:ident)*];)*) => { $(mod $peer { $(bodies!($bodies, $open);)* })* };
}

macro_rules! bodies {
    (anything, $open:expr) => {
        tests!($open, body: an_image_comes_back_with_its_bytes the_same_layer_twice_and_an_empty_one zstd_layers
            what_is_absent_is_told_apart_from_failure wrong_bytes_are_refused_on_the_way_in);
    };
    (manifests, $open:expr) => {
        tests!($open, body: manifests_keep_their_bytes several_platforms attestations_stay_with_their_images an_index_in_an_index_in_an_index
            docker_media_types foreign_media_types_are_kept_byte_for_byte an_artifact_with_a_subject
            get_by_digest_and_find_by_digest);
    };
    (names, $open:expr) => {
        tests!($open, body: tags_move many_names_for_one_image tags_at_the_limit an_artifact_without_a_name
            many_artifacts_side_by_side);
    };
    (registry, $open:expr) => {
        tests!($open, registry_body: tags_are_listed_page_by_page a_second_push_sends_nothing
            a_changed_image_sends_what_changed what_another_repository_has_is_mounted
            deleting_by_digest_takes_the_tags_along parts_of_an_index_are_found_by_digest
            what_refers_to_an_image_is_found repositories_at_the_limit a_large_blob_goes_in_and_out many_at_once absence_of_a_repository);
    };
    (deletes_tags, $open:expr) => { tests!($open, registry_body: deleting_a_tag_spares_the_manifest); };
    (locked, $open:expr) => { tests!($open, registry_body: nobody_gets_in_without_the_password); };
    (trusted, $open:expr) => { tests!($open, registry_body: an_unknown_authority_is_refused); };
    (tokens, $open:expr) => { tests!($open, registry_body: tokens_that_expire_on_the_way_are_renewed); };
}

macro_rules! tests {
    ($open:expr, $module:ident: $($test:ident)*) => { $(
        #[test]
        fn $test() {
            crate::run(concat!(module_path!(), "::", stringify!($test)), $open, crate::$module::$test);
        }
    )* };
}

every! {
    memory: crate::local::memory => [anything manifests names];
    layout: crate::local::layout => [anything manifests names];
    oci_archive: crate::local::oci_archive => [anything manifests];
    docker_archive: crate::local::docker_archive => [anything];
    directory: crate::local::directory => [anything manifests];
    embedded: crate::registries::embedded => [anything manifests names registry deletes_tags];
    embedded_tls_basic: crate::registries::embedded_tls_basic
        => [anything manifests names registry deletes_tags locked trusted];
    scripted: crate::registries::scripted => [anything manifests names registry deletes_tags];
    served: crate::registries::served => [anything manifests names registry deletes_tags];
    served_tls_basic: crate::registries::served_tls_basic
        => [anything manifests names registry deletes_tags locked trusted];
    distribution: crate::registries::distribution => [anything manifests names registry];
    distribution_tls: crate::registries::distribution_tls => [anything manifests names registry trusted];
    distribution_basic: crate::registries::distribution_basic => [anything manifests names registry locked];
    distribution_bearer: crate::registries::distribution_bearer => [anything manifests names registry locked tokens];
}

/// Runs a body in a room of its own, if the peer can be had here.
fn run(test: &str, open: Open, body: fn(&Peer)) {
    match open() {
        Ok(peer) => body(&peer),
        Err(why) => skycap_testkit::skipped!("{test}: {why}"),
    }
}
