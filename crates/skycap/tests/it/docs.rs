//! What the documentation tells people to type works, in the order in which it stands there.

use std::path::{Path, PathBuf};

use crate::world::{SKYCAP, World, free_port, run};

fn page(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../docs", name].iter().collect();
    std::fs::read_to_string(path).unwrap()
}

/// The lines of all `sh` blocks.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect()
}

/// Runs a page's commands as one script. The port is one that is free; what is left in the background ends with it.
fn try_out(world: &World, script: &str) {
    assert!(!script.is_empty());
    let script = script.replace(":5000", &format!(":{}", free_port()));
    let background = " >server.log 2>&1 &\ntrap \"kill $!\" EXIT\nsleep 0.5\n";
    let script = format!("set -eu\n{}", script.replace(" &\n", background));
    let mut command = world.command("sh");
    let directory = Path::new(SKYCAP).parent().unwrap().display();
    command.env("PATH", format!("{directory}:/usr/bin:/bin")).current_dir(world.dir("empty"));
    command.arg("-c").arg(&script);
    run(command).ok();
}

#[test]
fn the_page_on_moving_images_is_true() {
    let world = World::new();
    try_out(&world, &commands(&page("commands/images.md")));
    assert_eq!(std::fs::read_to_string(world.path("empty/another/hello.txt")).unwrap(), "hello\n");
}

#[test]
fn the_page_on_attestations_is_true() {
    try_out(&World::new(), &commands(&page("commands/attestations.md")));
}

#[test]
fn the_page_on_building_is_true() {
    let world = World::new();
    try_out(&world, &commands(&page("commands/build.md")));
    assert_eq!(std::fs::read_to_string(world.path("empty/files/hello.txt")).unwrap(), "hello\n");
    assert!(std::fs::read_to_string(world.path("empty/app.json")).unwrap().contains("containerimage.digest"));
}

/// The page names every flag that is not refused, and those that are.
#[test]
fn every_flag_of_build_is_in_its_page() {
    let help = run(World::new().skycap(["build", "--help"])).ok().stdout;
    let page = page("commands/build.md");
    let general = ["--debug", "--help", "--version", "--host", "--ca-cert"];
    let words = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
        .flat_map(|line| line.split([' ', ',', '[', '=']));
    let flags: Vec<&str> = words.filter(|word| word.starts_with("--") && !general.contains(word)).collect();
    assert!(flags.len() > 30, "{flags:?}");
    let missing: Vec<_> = flags.into_iter().filter(|flag| !page.contains(*flag)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The help of a command and of all below it, each with the command's words.
fn all_help(world: &World, words: &[String]) -> Vec<(String, String)> {
    let help = run(world.skycap(words.iter().map(String::as_str).chain(["--help"]))).ok().stdout;
    let commands = help.split_once("Commands:\n").map_or("", |(_, behind)| behind.split("\n\n").next().unwrap());
    // What is indented further goes on with what stands above it.
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let names = names.map(|line| line.split(' ').next().unwrap()).filter(|name| *name != "help");
    let mut all: Vec<_> = names.flat_map(|name| all_help(world, &[words, &[name.to_owned()]].concat())).collect();
    all.push((words.join(" "), help));
    all
}

/// Whoever looks for a flag in the documentation finds it.
#[test]
fn every_flag_of_every_command_is_in_a_page() {
    let pages = [
        "../README.md",
        "pipeline.md",
        "store.md",
        "sandbox.md",
        "commands/build.md",
        "commands/images.md",
        "commands/registry.md",
        "components/registry-image.md",
    ];
    let pages: String = pages.into_iter().map(page).collect();
    let all = all_help(&World::new(), &[]);
    assert!(all.len() > 20, "{}", all.len());
    let mut missing = Vec::new();
    for (command, help) in all {
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let flags = lines.flat_map(|line| line.split([' ', ',', ';', '[', '='])).filter(|word| word.starts_with("--"));
        missing.extend(flags.filter(|flag| !pages.contains(*flag)).map(|flag| format!("{command} {flag}")));
    }
    missing.retain(|flag| !flag.ends_with(" --version"));
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_page_on_a_registry_is_true() {
    try_out(&World::new(), &commands(&page("commands/registry.md")));
}

#[test]
fn the_page_on_the_store_is_true() {
    try_out(&World::new(), &commands(&page("store.md")));
}

/// Whoever reads `--help` sees examples; each of them is a command line that is understood.
#[test]
fn examples_in_help_are_understood() {
    let world = World::new();
    for command in [
        "build",
        "inspect",
        "tags",
        "copy",
        "pull",
        "push",
        "store gc",
        "run",
        "watch",
        "registry serve",
        "completions",
    ] {
        let help = run(world.skycap(command.split(' ').chain(["--help"]))).ok().stdout;
        assert!(help.contains("Examples:\n"), "{command}");
        let examples: Vec<&str> = help.lines().filter(|line| line.trim_start().starts_with("skycap ")).collect();
        assert!(examples.len() >= 3, "{command}: {help}");
        for example in examples {
            // The command, without what stands beside it; nothing is asked of anybody: --help is said too.
            let words = example.trim().split("  ").next().unwrap().split(" | ").next().unwrap();
            let words = words.split(" > ").next().unwrap();
            let words: Vec<&str> = words.split(' ').skip(1).filter(|word| !word.is_empty()).collect();
            let ran = run(world.skycap(words.into_iter().map(|word| word.trim_matches('\'')).chain(["--help"])));
            assert_eq!(ran.code, Some(0), "{example}: {}", ran.stderr);
        }
    }
}

#[test]
fn every_command_is_completed_and_a_misspelt_one_is_guessed() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(world.skycap(["completions", shell])).ok().stdout;
        for word in [
            "inspect",
            "tags",
            "copy",
            "pull",
            "push",
            "store",
            "referrers",
            "unused-for",
            "build-context",
            "no-cache-filter",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    run(world.skycap(["cpy"])).fails(2, "copy");
    run(world.skycap(["copy", "--plaform", "a", "b"])).fails(2, "--platform");
}
