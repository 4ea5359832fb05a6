//! The site's commands before and after a server.

use outpost::spawner::Progress;
use secrecy::SecretString;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_preparation_is_heard() {
    let site = Site::new(concat!(
        "cmd = ['sh', '-c', 'env; sleep 1000']\n",
        "pre_start = ['sh', '-c', '''",
        "echo '{\"progress\": 30, \"message\": \"Making room.\"}'; echo plain $OUTPOST_AUTH_STATE_ACCESS_TOKEN $JUPYTERHUB_X; ",
        "echo '{\"progress\": 60, \"message\": \"Made <b>room</b>.\"}'",
        "''']\n"
    )
    .replace('{', "{{").replace('}', "}}").as_str());
    let mut launch = launch();
    launch.environment.0.insert("JUPYTERHUB_X".to_owned(), "x".to_owned());
    launch.auth_state.insert("access-token".to_owned(), SecretString::from("t0ken"));
    let (progress, mut heard) = Progress::channel();
    site.start_with(&launch, &progress).await.unwrap();
    let heard = events(&mut heard);
    assert!(heard.contains(&(30, "Making room.".to_owned())), "{heard:?}");
    assert!(heard.contains(&(60, "Made <b>room</b>.".to_owned())), "{heard:?}");
    let logs = site.logs(&launch.uid).await;
    assert_eq!(logs[0], "plain t0ken x");
    // For the preparation only.
    assert!(!logs.iter().any(|line| line.contains("OUTPOST_AUTH_STATE")));
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_after_comes_after() {
    for (cmd, stops) in [("sleep 1000", true), ("sleep 0.5", false)] {
        let marks = tempfile::tempdir().unwrap();
        let site = Site::new(&format!(
            "cmd = ['sh', '-c', '{cmd}']\npost_stop = ['sh', '-c', 'echo $JUPYTERHUB_X > {0}/new; mv {0}/new {0}/mark; exit 1']",
            marks.path().display()
        ));
        let mut launch = launch();
        launch.environment.0.insert("JUPYTERHUB_X".to_owned(), "x".to_owned());
        site.start(&launch).await.unwrap();
        if stops {
            site.stop(&launch.uid).await;
        } else {
            until_status(&site, &launch.uid, ended).await;
        }
        let mark = marks.path().join("mark");
        until("the command after", || mark.exists()).await;
        assert_eq!(fs::read_to_string(mark).unwrap(), "x\n");
        if !stops {
            until("its failure", || {
                fs::read_to_string(site.dir(&launch.uid).join("log"))
                    .is_ok_and(|log| log.contains("after the server ended with exit code 1"))
            })
            .await;
            site.stop(&launch.uid).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_preparation_is_cleaned_up_after() {
    let marks = tempfile::tempdir().unwrap();
    let site = Site::new(&format!(
        "{SLEEPER}pre_start = ['false']\npost_stop = ['touch', '{}/after']",
        marks.path().display()
    ));
    let launch = launch();
    site.failure(&launch).await;
    until("the command after", || marks.path().join("after").exists()).await;
    assert_eq!(site.stage(&launch.uid).as_deref(), Some("failed"));
    site.stop(&launch.uid).await;
}
