//! The options that every program shares, to be flattened into its own (`#[command(flatten)]`).
//!
//! `--version` is deliberately absent: clap adds it with each program's own `#[command(version)]`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::settings::{Environment, Loaded, load};

/// The exit code for settings that are wrong.
pub const EXIT_BAD_SETTINGS: u8 = 2;

/// Where settings come from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// TOML file with settings; the environment (HOLDFAST__A__B for key a.b) overrides it
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Check the settings, print those in force without secrets, and exit
    #[arg(long, global = true)]
    pub check_config: bool,
}

impl ConfigArgs {
    /// Loads the settings of the file and the process's environment.
    ///
    /// # Errors
    /// The exit code with which to end, everything being said: 2 with the message on stderr when something is wrong,
    /// 0 with the values on stdout when only a check was asked for.
    pub fn load(&self) -> Result<Loaded, ExitCode> {
        self.load_from(Environment::of_process(), &mut io::stdout(), &mut io::stderr())
    }

    fn load_from(
        &self,
        environment: Environment,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<Loaded, ExitCode> {
        // Who reads the output may have gone (`| head`); the exit code still tells.
        match load(self.config.as_deref(), environment) {
            Err(error) => {
                drop(writeln!(err, "{error}"));
                Err(ExitCode::from(EXIT_BAD_SETTINGS))
            }
            Ok(loaded) if self.check_config => {
                drop(write!(out, "configuration is valid\n{loaded}"));
                for warning in &loaded.warnings {
                    drop(writeln!(err, "warning: {warning}"));
                }
                Err(ExitCode::SUCCESS)
            }
            Ok(loaded) => Ok(loaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "program", version)]
    struct Program {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(subcommand)]
        command: Option<Command>,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Command {
        Run,
    }

    fn run(args: &[&str], environment: &[(&str, &str)]) -> (Result<Loaded, String>, String, String) {
        let program = Program::try_parse_from(args).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let environment = Environment::from_pairs(environment.iter().copied());
        let loaded =
            program.config.load_from(environment, &mut out, &mut err).map_err(|code| format!("{code:?}"));
        (loaded, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    const URL: (&str, &str) = ("DATABASE_URL", "postgres://app:hunter2@localhost/holdfast");

    #[test]
    fn options_are_well_formed_and_stand_before_or_after_the_subcommand() {
        Program::command().debug_assert();
        for args in [["program", "--check-config", "run"], ["program", "run", "--check-config"]] {
            let program = Program::try_parse_from(args).unwrap();
            assert!(program.config.check_config && matches!(program.command, Some(Command::Run)));
        }
        let file = Program::try_parse_from(["program", "--config", "holdfast.toml"]).unwrap().config.config;
        assert_eq!(file, Some(PathBuf::from("holdfast.toml")));
        let version = Program::try_parse_from(["program", "--version"]).unwrap_err();
        assert_eq!(version.kind(), clap::error::ErrorKind::DisplayVersion);
    }

    #[test]
    fn good_settings_are_loaded_silently() {
        let (loaded, out, err) = run(&["program"], &[URL]);
        assert!(loaded.is_ok());
        assert_eq!((out.as_str(), err.as_str()), ("", ""));
    }

    #[test]
    fn a_check_prints_what_is_in_force_and_no_secret() {
        let (loaded, out, err) =
            run(&["program", "--check-config"], &[URL, ("HOLDFAST__PG__DEADLINE", "4s")]);
        assert_eq!(loaded.unwrap_err(), format!("{:?}", ExitCode::SUCCESS));
        assert!(out.starts_with("configuration is valid\nserver.bind = 0.0.0.0:8080 (default)\n"), "{out}");
        assert!(out.contains("\npg.deadline = 4s (environment)\n"), "{out}");
        assert!(err.starts_with("warning: pg.callback_secret is not set"), "{err}");
        assert!(!out.contains("hunter2") && !err.contains("hunter2"));
    }

    #[test]
    fn bad_settings_end_with_2_and_the_key() {
        for args in [&["program"][..], &["program", "--check-config"]] {
            let (loaded, out, err) = run(args, &[URL, ("HOLDFAST__PG__DEADLINE", "never")]);
            assert_eq!(loaded.unwrap_err(), format!("{:?}", ExitCode::from(2)));
            assert_eq!(out, "");
            assert!(
                err.starts_with("setting pg.deadline (environment HOLDFAST__PG__DEADLINE) is \"never\""),
                "{err}"
            );
        }
    }
}
