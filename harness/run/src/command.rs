//! Steps that run the documented commands.

use std::path::PathBuf;

use super::context::{RunContext, expected_value};
use super::credentials::CredentialError;
use super::not_run::NotRun;
use super::observe::{file_references, with_paths};
use super::step::StepResult;
use check::judge::describe;
use environment::{CommandError, Server};
use model::case::{Expectation, Expected, OpensslPlan, PlannedStep};
use model::outcome::{Mismatch, SkipReason, Witness};
use model::report::StepRecord;
use model::scenario::CommandPlace;
use os::command::{self, CommandRun};
use os::user::RunAs;

impl RunContext {
    pub(super) async fn openssl_step(
        &self,
        index: usize,
        step: &PlannedStep,
        plan: &OpensslPlan,
        server: &dyn Server,
        deviation: Option<&Expectation>,
    ) -> Result<StepResult, NotRun> {
        let there = |text: &String| with_paths(text, plan.at, server, self.credentials.as_ref());
        let args = plan.args.iter().map(there).collect::<Result<Vec<_>, _>>()?;
        let CommandRun { command, status, output } = match plan.at {
            CommandPlace::Here => {
                let missing = || NotRun::Skip(SkipReason::MachineLacks("the `openssl` command is not installed".to_owned()));
                let openssl = self.openssl.as_ref().ok_or_else(missing)?;
                // The files are the clients'.
                command::run(openssl, &args, RunAs::of_clients().as_ref(), self.limits.connect).await.map_err(CommandError::from)?
            }
            CommandPlace::Server => {
                let files = self.own_files(&plan.args)?;
                server.openssl(&args, &files, self.limits.connect).await?
            }
        };
        let judged = |expectation: &Expectation| judge_output(index, expectation, status, &output, &there);
        let mismatches = judged(&step.expectation)?;
        let deviation = deviation.map(judged).transpose()?;
        let record =
            StepRecord { expected: expected_value(&step.expectation), observed: None, command: Some(command), output: Some(output) };
        Ok(StepResult { record, mismatches, deviation, session: None, control: None })
    }

    /// The clients' files that arguments name.
    fn own_files(&self, args: &[String]) -> Result<Vec<PathBuf>, CredentialError> {
        let references = args.iter().flat_map(|arg| file_references(arg)).filter(|reference| !reference.starts_with("server:"));
        references.map(|reference| self.credentials.path(reference)).collect()
    }
}

/// `there` puts paths in the place of files' names.
fn judge_output(
    step: usize,
    expectation: &Expectation,
    status: Option<i32>,
    output: &str,
    there: &dyn Fn(&String) -> Result<String, CredentialError>,
) -> Result<Vec<Mismatch>, CredentialError> {
    let mut mismatches = Vec::new();
    let mut add = |what: &str, expected: String, observed: String| {
        mismatches.push(Mismatch { step, witness: Witness::Command, what: what.to_owned(), expected, observed });
    };
    match &expectation.expected {
        Expected::Output { lines, status: expected } => {
            if status != Some(*expected) {
                add("status", expected.to_string(), status.map_or_else(|| "ended by a signal".to_owned(), |status| status.to_string()));
            }
            for line in lines {
                let line = there(line)?;
                if !output.contains(&line) {
                    add("output", format!("a line with `{line}`"), output.trim().to_owned());
                }
            }
        }
        other => add("outcome", describe(other), output.trim().to_owned()),
    }
    Ok(mismatches)
}
