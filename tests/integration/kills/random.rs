//! SIGKILL at any moment, many times, while several clients start and stop servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::Value;
use tokio::sync::{Mutex, RwLock};

use super::{OBEDIENT, assert_nothing_is_left, body, processes};
use crate::support::daemon::{Daemon, send};
use crate::support::server::Reply;

const ROUNDS: usize = 200;
const CLIENTS: usize = 4;
/// More than these a client does not leave running.
const MOST: usize = 4;
/// Every so many rounds all is looked at in peace.
const CHECK: usize = 20;

/// What servers do. Each is one process.
const BEHAVIOURS: [&str; 5] =
    ["exec sleep 600", "exec sleep 600", "exec sleep 0.4", "exit 3", "trap \"\" INT; exec sleep 600"];

/// Name and start.
type Id = (String, String);

#[derive(Default)]
struct Told {
    /// Starts that were answered with 2xx.
    started: BTreeSet<Id>,
    /// Stops that were answered with 2xx, and 404 after one that was not answered.
    stopped: BTreeSet<Id>,
    starts: usize,
    stops: usize,
    refused: usize,
    unanswered: usize,
}

struct Site {
    daemon: Daemon,
    told: Mutex<Told>,
    /// Taken for writing when all is to be looked at in peace.
    peace: RwLock<()>,
    end: AtomicBool,
    started: Instant,
}

fn path((name, start_id): &Id) -> String {
    format!("/services/{name}/{start_id}")
}

impl Site {
    async fn call(&self, request: reqwest::RequestBuilder) -> Option<Reply> {
        let reply = send(request.timeout(Duration::from_secs(20))).await.ok();
        if reply.is_none() {
            self.told.lock().await.unanswered += 1;
            // The daemon is down: as a hub, ask again in a moment.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        reply
    }

    /// One client: as a hub it does one thing after the other for each server, and asks again what was not answered.
    async fn client(self: Arc<Self>, number: usize, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64 + 1));
        let names = [format!("user{number}-"), format!("user{number}-näme"), String::new()];
        let mut own: Vec<Id> = Vec::new();
        let mut count = 0;
        while !self.end.load(Ordering::Relaxed) {
            let peace = self.peace.read().await;
            let dice = rng.random_range(0..100);
            if own.len() < MOST && dice < 50 {
                let id = (names[rng.random_range(0..names.len())].clone(), format!("{number}-{count}"));
                count += 1;
                let (asynchronous, tries) = (rng.random(), rng.random_range(1..4));
                let body = body(&id.0, &id.1, BEHAVIOURS[rng.random_range(0..BEHAVIOURS.len())]);
                own.push(id.clone());
                for _ in 0..tries {
                    let Some(reply) = self.call(self.daemon.post(&body, asynchronous)).await else { continue };
                    let mut told = self.told.lock().await;
                    if reply.status.is_success() {
                        told.starts += 1;
                        told.started.insert(id);
                    } else {
                        assert_eq!(reply.status, 419, "{:?}", reply.body);
                        told.refused += 1;
                    }
                    break;
                }
            } else if !own.is_empty() && dice < 90 {
                let id = own.swap_remove(rng.random_range(0..own.len()));
                let asynchronous = rng.random();
                match self.call(self.daemon.delete(&path(&id), asynchronous)).await {
                    Some(reply) if reply.status.is_success() => {
                        let mut told = self.told.lock().await;
                        told.stops += 1;
                        told.stopped.insert(id);
                    }
                    // It failed, or its start never arrived.
                    Some(reply) if reply.status == 404 => {}
                    Some(reply) => {
                        assert_eq!(reply.status, 419, "{:?}", reply.body);
                        own.push(id);
                    }
                    None => own.push(id),
                }
            } else if let Some(id) = own.first() {
                let reply = self.call(self.daemon.request(Method::GET, &path(id))).await;
                if let Some(reply) = reply {
                    assert!(reply.status == 200 || reply.status == 404, "{}", reply.status);
                }
            }
            drop(peace);
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..40))).await;
        }
    }

    /// What holds at any moment in which no Outpost runs: what it does not drive cannot move a row.
    async fn look_at_the_dead(&self, seen: &mut BTreeSet<String>) {
        let running = processes(&self.daemon);
        let rows = self.daemon.rows().await;
        for (uid, pids) in &running {
            assert_eq!(pids.len(), 1, "server {uid} has two processes");
            assert!(rows.iter().any(|row| row["id"] == **uid), "a process without a row: {uid}");
        }
        note(&rows, seen);
    }

    /// What is wrong once nothing moves any more.
    async fn mistake(&self, seen: &mut BTreeSet<String>, ended: &mut BTreeMap<String, Id>) -> Option<String> {
        let rows = self.daemon.rows().await;
        let running = processes(&self.daemon);
        note(&rows, seen);
        for row in self.daemon.ended().await {
            ended.insert(word(&row, "id"), (word(&row, "name"), word(&row, "start_id")));
        }
        let mut alive: BTreeSet<Id> = BTreeSet::new();
        for row in &rows {
            let (uid, phase) = (word(row, "id"), word(row, "phase"));
            match phase.as_str() {
                "running" if !running.contains_key(&uid) => return Some(format!("a row without a process: {row}")),
                "ended" if running.contains_key(&uid) => return Some(format!("it runs: {row}")),
                "running" | "ended" => {}
                _ => return Some(format!("still on its way: {row}")),
            }
            if !alive.insert((word(row, "name"), word(row, "start_id"))) {
                return Some(format!("two rows of one start: {row}"));
            }
            if ended.contains_key(&uid) {
                return Some(format!("a row of a server that has ended: {row}"));
            }
        }
        for (uid, pids) in &running {
            if pids.len() != 1 || !rows.iter().any(|row| row["id"] == **uid) {
                return Some(format!("processes {pids:?} of {uid}"));
            }
        }
        if let Some(lost) =
            seen.iter().find(|uid| !ended.contains_key(*uid) && !rows.iter().any(|row| row["id"] == ***uid))
        {
            return Some(format!("neither a row nor an end: {lost}"));
        }
        let told = self.told.lock().await;
        let ends: BTreeSet<&Id> = ended.values().collect();
        if let Some(lost) = told.started.iter().find(|id| !alive.contains(*id) && !ends.contains(*id)) {
            return Some(format!("a start that was answered is lost: {lost:?}"));
        }
        if let Some(back) = told.stopped.iter().find(|id| alive.contains(*id)) {
            return Some(format!("a stop that was answered is lost: {back:?}"));
        }
        None
    }

    async fn settle(&self, seen: &mut BTreeSet<String>, ended: &mut BTreeMap<String, Id>) {
        let _peace = self.peace.write().await;
        let end = Instant::now() + Duration::from_secs(30);
        while let Some(mistake) = self.mistake(seen, ended).await {
            assert!(Instant::now() < end, "{mistake}\n{}", self.daemon.stderr());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn word(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap().to_owned()
}

fn note(rows: &[Value], seen: &mut BTreeSet<String>) {
    seen.extend(rows.iter().map(|row| word(row, "id")));
}

/// `OUTPOST_TEST_SEED` repeats the choices of a run; the moments are those of the machine.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_kills_at_random() {
    let seed = std::env::var("OUTPOST_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("OUTPOST_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let settings = OBEDIENT.replace("400ms", "100ms");
    let daemon = Daemon::start(&format!("[log]\nlevel = 'warn'\n[spawners.local]\n{settings}")).await;
    let site = Arc::new(Site {
        daemon,
        told: Mutex::default(),
        peace: RwLock::default(),
        end: AtomicBool::new(false),
        started: Instant::now(),
    });
    let clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(site.clone().client(number, seed))).collect();
    let (mut seen, mut ended) = (BTreeSet::new(), BTreeMap::new());
    for round in 1..=ROUNDS {
        // Most die while they work, some before they have begun to.
        if rng.random_range(0..4) > 0 {
            site.daemon.up().await;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
        site.daemon.kill();
        if round % 5 == 0 {
            site.look_at_the_dead(&mut seen).await;
        }
        site.daemon.spawn();
        if round % CHECK == 0 {
            site.daemon.up().await;
            site.settle(&mut seen, &mut ended).await;
        }
        for client in &clients {
            assert!(!client.is_finished(), "a client got an answer that it must not get");
        }
    }
    site.end.store(true, Ordering::Relaxed);
    site.daemon.up().await;
    for client in clients {
        client.await.unwrap();
    }
    site.settle(&mut seen, &mut ended).await;

    let rows = site.daemon.rows().await;
    let left: Vec<_> = rows.iter().map(|row| (word(row, "name"), word(row, "start_id"))).collect();
    for id in &left {
        assert_eq!(send(site.daemon.delete(&path(id), false)).await.unwrap().status, 200, "{id:?}");
    }
    assert_nothing_is_left(&site.daemon).await;
    assert_eq!(site.mistake(&mut seen, &mut ended).await, None);
    let told = site.told.lock().await;
    println!(
        "{ROUNDS} kills in {:.0?}: {} servers, {} starts and {} stops answered, {} refused, {} requests unanswered, {} left at the end",
        site.started.elapsed(),
        seen.union(&ended.keys().cloned().collect()).count(),
        told.starts,
        told.stops,
        told.refused,
        told.unanswered,
        left.len()
    );
}
