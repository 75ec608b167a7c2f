use std::time::SystemTime;

use super::*;
use crate::runtime::LogSource;

#[tokio::test]
async fn output_is_kept_with_its_stream_and_its_time() {
    let fixture = Fixture::new();
    let before = SystemTime::now() - Duration::from_millis(1);
    let spec = script("c1", "echo one; sleep 0.1; echo two >&2; sleep 0.1; printf 'three, no end'");
    fixture.start(&spec).await;
    fixture.ended(&spec.id).await;
    let lines = fixture.runtime.logs(&spec.id, &LogRequest::default()).await.unwrap();
    let lines: Vec<_> = lines.map(Result::unwrap).collect().await;
    let texts: Vec<_> = lines.iter().map(|line| (line.source, &line.text[..])).collect();
    let wanted: [(LogSource, &[u8]); 3] =
        [(LogSource::Out, b"one"), (LogSource::Error, b"two"), (LogSource::Out, b"three, no end")];
    assert_eq!(texts, wanted);
    assert!(lines.is_sorted_by_key(|line| line.at) && lines[0].at >= before);

    let since = LogRequest { since: Some(lines[1].at), ..LogRequest::default() };
    assert_eq!(fixture.runtime.logs(&spec.id, &since).await.unwrap().count().await, 2);
    let tail = LogRequest { tail: Some(1), follow: true, ..LogRequest::default() };
    let last: Vec<_> = fixture.runtime.logs(&spec.id, &tail).await.unwrap().collect().await;
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].as_ref().unwrap().text, "three, no end");
}

#[tokio::test]
async fn follower_sees_every_line_across_files_and_the_end() {
    let fixture = Fixture::new();
    let count = 20_000;
    let wait = "while [ ! -e $SLUICE_FILES/../go ]; do sleep 0.01; done";
    let mut spec = script("c1", &format!("echo first; {wait}; exec seq {count}"));
    // Twice the lines' size and what is stored with each.
    spec.log.keep = Some(2_000_000);
    fixture.start(&spec).await;
    let request = LogRequest { follow: true, ..LogRequest::default() };
    let mut lines = fixture.runtime.logs(&spec.id, &request).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().text, "first");
    std::fs::write(fixture.runtime.shared.folder(&spec.id).path.join("go"), "").unwrap();
    let rest: Vec<_> =
        lines.map(|line| String::from_utf8(line.unwrap().text.to_vec()).unwrap()).collect().await;
    assert_eq!(rest.len(), count);
    assert!(rest.iter().enumerate().all(|(index, line)| *line == (index + 1).to_string()));
}

#[tokio::test]
async fn output_without_end_costs_a_bounded_place() {
    let fixture = Fixture::new();
    let keep = 256 << 10;
    let mut spec =
        script("c1", "yes a line that is repeated for ever | head -c 20000000; echo; printf '%050000d' 0");
    spec.log.keep = Some(keep);
    fixture.start(&spec).await;
    fixture.ended(&spec.id).await;
    let folder = fixture.runtime.shared.folder(&spec.id).logs();
    let sizes: u64 =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    // What one read of a pipe gives is written as a whole, with a head for every line.
    assert!((1..keep + (256 << 10)).contains(&sizes), "{sizes}");
    let output = fixture.output(&spec.id).await;
    let long: Vec<_> = output.iter().rev().take_while(|line| line.starts_with('0')).collect();
    assert_eq!(long.iter().map(|line| line.len()).sum::<usize>(), 50_000);
    assert!(long.iter().all(|line| line.len() <= 16 << 10));
}
