//! Output of containers, and hooks inside of them.

use std::time::SystemTime;

use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use bollard::query_parameters::LogsOptions;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;

use super::fault::{Asked, runtime_error};
use super::{DockerRuntime, status};
use crate::runtime::{
    ExecEnd, ExecOutcome, ExecRequest, Fault, InstanceRef, LogLine, LogLines, LogRequest, LogSource,
    RuntimeError,
};

/// As for processes.
const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// What engines say, in their own words on a hook's output, when there was nothing to run.
const NOTHING_TO_RUN: &[u8] = b"OCI runtime exec failed";

pub(super) async fn logs(
    runtime: &DockerRuntime,
    id: &InstanceRef,
    request: &LogRequest,
) -> Result<LogLines, RuntimeError> {
    let doing = format!("read the output of {id}");
    let client = runtime.client().await?;
    let seconds = request.since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok());
    let options = LogsOptions {
        follow: request.follow,
        stdout: true,
        stderr: true,
        // Whole seconds; the rest is left out below.
        since: seconds.and_then(|since| i32::try_from(since.as_secs()).ok()).unwrap_or_default(),
        timestamps: true,
        tail: request.tail.map_or("all".to_owned(), |tail| tail.to_string()),
        ..LogsOptions::default()
    };
    let (host, since) = (runtime.config.host.clone(), request.since);
    // Without `follow` an engine that falls silent hangs. A follower waits for as long as it likes.
    let silence = (!request.follow).then_some(runtime.config.call_deadline);
    let name = runtime.name(id);
    let lines = Box::pin(client.logs(&name, Some(options)));
    let lines = stream::unfold(Some(lines), move |lines| {
        let (host, doing) = (host.clone(), doing.clone());
        async move {
            let mut lines = lines?;
            let next = match silence {
                None => lines.next().await,
                Some(silence) => match tokio::time::timeout(silence, lines.next()).await {
                    Ok(next) => next,
                    Err(_) => Some(Err(bollard::errors::Error::RequestTimeoutError)),
                },
            };
            match next? {
                Ok(output) => Some((line(output).map(Ok), Some(lines))),
                Err(error) => Some((Some(Err(runtime_error(&host, &doing, Asked::Other, error))), None)),
            }
        }
    });
    let wanted = move |line: &Result<LogLine, RuntimeError>| match (line, since) {
        (Ok(line), Some(since)) => line.at >= since,
        _ => true,
    };
    Ok(lines.filter_map(move |line| std::future::ready(line.filter(&wanted))).boxed())
}

/// A time, a blank, the text.
fn line(output: LogOutput) -> Option<LogLine> {
    let (source, message) = match output {
        LogOutput::StdErr { message } => (LogSource::Error, message),
        LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
            (LogSource::Out, message)
        }
    };
    let blank = message.iter().position(|byte| *byte == b' ')?;
    let at = status::time(std::str::from_utf8(&message[..blank]).ok())?;
    let text = message.slice(blank + 1..);
    let end = text.len() - usize::from(text.ends_with(b"\n"));
    Some(LogLine { at, source, text: text.slice(..end) })
}

pub(super) async fn exec(
    runtime: &DockerRuntime,
    id: &InstanceRef,
    request: &ExecRequest,
) -> Result<ExecOutcome, RuntimeError> {
    let doing = format!("run a hook in {id}");
    let client = runtime.client().await?;
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(request.command.clone()),
        env: Some(request.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        ..ExecConfig::default()
    };
    let name = runtime.name(id);
    let created = runtime.call(&doing, client.create_exec(&name, config)).await?;
    let started = runtime.call(&doing, client.start_exec(&created.id, None)).await?;
    let StartExecResults::Attached { mut output, .. } = started else {
        return Err(runtime.error(Fault::Failed, &doing, "the engine does not hand over the output"));
    };
    let (mut kept, mut truncated) = (BytesMut::new(), false);
    let collect = async {
        while let Some(piece) = output.next().await {
            let piece = piece?.into_bytes();
            let room = MAX_OUTPUT_BYTES - kept.len();
            kept.extend_from_slice(&piece[..piece.len().min(room)]);
            truncated |= piece.len() > room;
        }
        Ok(())
    };
    let ended = match tokio::time::timeout(request.timeout, collect).await {
        Err(_) => ExecEnd::TimedOut,
        Ok(Err(error)) => return Err(runtime_error(&runtime.config.host, &doing, Asked::Other, error)),
        Ok(Ok(())) => {
            let found = runtime.call(&doing, client.inspect_exec(&created.id)).await?;
            let code = found.exit_code.and_then(|code| i32::try_from(code).ok());
            ExecEnd::Exited(
                code.ok_or_else(|| runtime.error(Fault::Failed, &doing, "nobody saw how it ended"))?,
            )
        }
    };
    let output: Bytes = kept.freeze();
    if matches!(ended, ExecEnd::Exited(126 | 127)) && output.starts_with(NOTHING_TO_RUN) {
        return Err(runtime.error(Fault::CommandNotFound, &doing, &String::from_utf8_lossy(&output)));
    }
    Ok(ExecOutcome { end: ended, output, truncated })
}
