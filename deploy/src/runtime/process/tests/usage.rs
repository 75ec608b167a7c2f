use super::*;

/// A child that works, beside one that sleeps, in an instance; and an instance that only sleeps.
async fn is_counted(fixture: Fixture) {
    let busy = script("busy", "(while :; do :; done) & exec sleep 1000");
    let idle = script("idle", "exec sleep 1000");
    fixture.start(&busy).await;
    fixture.start(&idle).await;
    let ids = [busy.id.clone(), idle.id.clone(), id("gone")];
    let worked = Duration::from_millis(300);
    let waiting = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let used = fixture.runtime.cpu_used(&ids).await.unwrap();
            let of = |id: &InstanceRef| used.iter().find(|(found, _)| found == id).map(|(_, used)| *used);
            assert_eq!(used.len(), 2, "{used:?}");
            if of(&busy.id).unwrap() >= worked {
                return of(&idle.id).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let by_idle = waiting.await.expect("it works");
    assert!(by_idle < worked, "{by_idle:?}");
}

#[tokio::test]
async fn what_an_instance_uses_is_counted_with_its_children() {
    is_counted(Fixture::new()).await;
}

#[tokio::test]
async fn it_is_counted_without_cgroups_too() {
    is_counted(Fixture::unlimited()).await;
}
