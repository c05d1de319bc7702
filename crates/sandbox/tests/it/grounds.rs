use std::process::ExitCode;
pub fn all(_filters: &[&str]) -> ExitCode { ExitCode::SUCCESS }
