//! Downloads against a stub with Hugging Face's shapes, and Ollama's routes.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use indicatif::ProgressBar;

use super::download::{Came, DownloadError, Folder, free};
use super::hub::{Hub, HubError, Remote};
use super::name::Repository;
use super::ollama::{Ollama, OllamaError};
use super::stub::Stub;
use crate::config::{Backend, Engine, Secret};

const FILE: &str = "model-Q8_0.gguf";

fn repository() -> Repository {
    Repository {
        owner: "owner".into(),
        name: "name".into(),
    }
}

/// Some bytes that are not all alike.
fn bytes(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| ((at + seed) * 31 % 251) as u8).collect()
}

/// A stub, and a home to download into.
struct Bench {
    stub: Stub,
    models: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self {
            stub: Stub::start().await,
            models: tempfile::tempdir().unwrap(),
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(&self.stub.address, None).unwrap()
    }

    fn path(&self) -> std::path::PathBuf {
        self.models.path().join("owner/name")
    }

    /// Names of what is in the repository's folder, the lock aside.
    fn there(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != ".lock").collect();
        names.sort();
        names
    }

    async fn listed(&self) -> Remote {
        let files = self.hub().files(&repository()).await.unwrap();
        files.into_iter().find(|file| file.path == FILE).unwrap()
    }

    async fn fetch(&self, file: &Remote) -> Result<Came, DownloadError> {
        let folder = Folder::claim(self.models.path(), &repository(), free)?;
        let progress = ProgressBar::hidden();
        let came = folder.fetch(&self.hub(), &repository(), file, &progress).await?;
        assert_eq!((progress.position(), progress.length()), (file.size, Some(file.size)));
        Ok(came)
    }

    async fn pull(&self) -> Result<Came, DownloadError> {
        self.fetch(&self.listed().await).await
    }
}

#[tokio::test]
async fn a_file_comes_whole_and_only_once() {
    let bench = Bench::new().await;
    let content = bytes(300_000, 1);
    bench.stub.offer(FILE, &content);
    assert_eq!(bench.pull().await.unwrap(), Came::Downloaded);
    assert_eq!(fs::read(bench.path().join(FILE)).unwrap(), content);
    assert_eq!(bench.there(), [FILE]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&bench.path()), mode(&bench.path().join(FILE))), (0o700, 0o600));
    assert_eq!(bench.pull().await.unwrap(), Came::WasThere);
    assert_eq!(bench.stub.ranges(), [None], "the second time nothing is asked for");
    fs::write(bench.path().join(FILE), bytes(300_000, 2)).unwrap();
    assert_eq!(
        bench.pull().await.unwrap(),
        Came::Downloaded,
        "what is here was another file"
    );
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_paths_that_lead_elsewhere_are_left_out() {
    let bench = Bench::new().await;
    for path in ["a.gguf", "b/c.gguf", "../d.gguf", "/e.gguf", "f\u{1b}.gguf", "g.gguf"] {
        bench.stub.offer(path, b"x");
    }
    let small = bench
        .stub
        .behaviour()
        .files
        .get_mut("g.gguf")
        .map(|file| file.large = false);
    assert!(small.is_some());
    let files = bench.hub().files(&repository()).await.unwrap();
    let names: Vec<_> = files
        .iter()
        .map(|file| (file.path.as_str(), file.sha256.is_some()))
        .collect();
    assert_eq!(names, [("a.gguf", true), ("b/c.gguf", true), ("g.gguf", false)]);
    assert_eq!(bench.stub.behaviour().seen.len(), 3, "two files on each page");
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again_from_where_it_was() {
    let bench = Bench::new().await;
    let content = bytes(200_000, 3);
    bench.stub.offer(FILE, &content);
    bench.stub.behaviour().cuts = vec![50_000, 70_000];
    assert_eq!(bench.pull().await.unwrap(), Came::Downloaded);
    assert_eq!(fs::read(bench.path().join(FILE)).unwrap(), content);
    let ranges = [None, Some("bytes=50000-".to_owned()), Some("bytes=120000-".to_owned())];
    assert_eq!(bench.stub.ranges(), ranges);
}

#[tokio::test]
async fn a_later_download_goes_on_where_one_ended() {
    let bench = Bench::new().await;
    let content = bytes(200_000, 4);
    bench.stub.offer(FILE, &content);
    bench.stub.behaviour().cuts = vec![80_000, 0];
    let broken = bench.pull().await.unwrap_err();
    assert!(matches!(broken, DownloadError::Broken { .. }), "{broken}");
    let there = bench.there();
    assert!(there.len() == 1 && there[0].ends_with(".part"), "{there:?}");
    assert_eq!(bench.pull().await.unwrap(), Came::Downloaded);
    assert_eq!(fs::read(bench.path().join(FILE)).unwrap(), content);
    assert_eq!(bench.stub.ranges().last(), Some(&Some("bytes=80000-".to_owned())));
    assert_eq!(bench.there(), [FILE]);
}

#[tokio::test]
async fn what_came_of_another_version_is_not_gone_on_with() {
    let bench = Bench::new().await;
    bench.stub.offer(FILE, &bytes(200_000, 5));
    bench.stub.behaviour().cuts = vec![80_000, 0];
    bench.pull().await.unwrap_err();
    let changed = bytes(200_000, 6);
    bench.stub.offer(FILE, &changed);
    assert_eq!(bench.pull().await.unwrap(), Came::Downloaded);
    assert_eq!(fs::read(bench.path().join(FILE)).unwrap(), changed);
    assert_eq!(bench.stub.ranges().last(), Some(&None), "from the beginning");
    assert_eq!(bench.there(), [FILE]);
}

#[tokio::test]
async fn a_file_that_changes_after_it_was_listed_is_refused_and_not_mixed() {
    for length in [200_000, 150_000, 60_000, 250_000] {
        let bench = Bench::new().await;
        bench.stub.offer(FILE, &bytes(200_000, 7));
        bench.stub.behaviour().cuts = vec![80_000, 0];
        let listed = bench.listed().await;
        bench.fetch(&listed).await.unwrap_err();
        bench.stub.offer(FILE, &bytes(length, 8));
        let refused = bench.fetch(&listed).await.unwrap_err();
        assert!(!bench.path().join(FILE).exists(), "{length}: {refused}");
        // The same name has the same content again: nothing of the other one is left in it.
        bench.stub.offer(FILE, &bytes(200_000, 7));
        if bench.fetch(&listed).await.is_err() {
            assert_eq!(bench.fetch(&listed).await.unwrap(), Came::Downloaded, "{length}");
        }
        assert_eq!(
            fs::read(bench.path().join(FILE)).unwrap(),
            bytes(200_000, 7),
            "{length}"
        );
    }
}

#[tokio::test]
async fn content_that_is_not_what_was_promised_is_thrown_away() {
    let bench = Bench::new().await;
    bench.stub.offer(FILE, &bytes(1_000, 9));
    if let Some(file) = bench.stub.behaviour().files.get_mut(FILE) {
        file.claimed = Some(bytes(1_000, 10));
    }
    let wrong = bench.pull().await.unwrap_err();
    assert!(matches!(wrong, DownloadError::Wrong { what: "SHA-256", .. }), "{wrong}");
    assert!(bench.there().is_empty());
}

#[tokio::test]
async fn a_gate_is_told_with_what_opens_it() {
    let bench = Bench::new().await;
    bench.stub.offer(FILE, &bytes(1_000, 11));
    bench.stub.behaviour().gate = Some("hf_secret".to_owned());
    let gated = bench.hub().files(&repository()).await.unwrap_err();
    let told = gated.to_string();
    assert!(matches!(gated, HubError::Gated { .. }), "{told}");
    assert!(told.contains("HF_TOKEN") && told.contains("/owner/name"), "{told}");
    let hub = Hub::new(&bench.stub.address, Some(Secret::new("hf_secret"))).unwrap();
    assert_eq!(hub.files(&repository()).await.unwrap().len(), 1);
    let other = Repository {
        owner: "owner".into(),
        name: "other".into(),
    };
    let missing = hub.files(&other).await.unwrap_err();
    assert!(matches!(missing, HubError::NotFound(_)), "{missing}");
    assert!(!format!("{hub:?}").contains("hf_secret"));
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let (bench, elsewhere) = (Bench::new().await, Stub::start().await);
    let content = bytes(100_000, 12);
    for stub in [&bench.stub, &elsewhere] {
        stub.offer(FILE, &content);
    }
    bench.stub.behaviour().gate = Some("hf_secret".to_owned());
    bench.stub.behaviour().elsewhere = Some(elsewhere.address.clone());
    elsewhere.behaviour().cuts = vec![40_000];
    let hub = Hub::new(&bench.stub.address, Some(Secret::new("hf_secret"))).unwrap();
    let files = hub.files(&repository()).await.unwrap();
    let folder = Folder::claim(bench.models.path(), &repository(), free).unwrap();
    let came = folder
        .fetch(&hub, &repository(), &files[0], &ProgressBar::hidden())
        .await;
    assert_eq!(came.unwrap(), Came::Downloaded);
    assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), content);
    let tokens = |stub: &Stub| -> Vec<bool> { stub.behaviour().seen.iter().map(|seen| seen.token.is_some()).collect() };
    assert_eq!(
        tokens(&bench.stub),
        [true, true, true],
        "the list, and the content twice"
    );
    assert_eq!(tokens(&elsewhere), [false, false]);
    assert_eq!(elsewhere.ranges(), [None, Some("bytes=40000-".to_owned())]);
}

#[tokio::test]
async fn redirections_have_an_end() {
    let bench = Bench::new().await;
    bench.stub.offer(FILE, b"x");
    let listed = bench.listed().await;
    for elsewhere in [bench.stub.address.clone(), "ftp://127.0.0.1".to_owned()] {
        bench.stub.behaviour().elsewhere = Some(elsewhere);
        let refused = bench.fetch(&listed).await.unwrap_err();
        assert!(
            matches!(refused, DownloadError::Hub(HubError::Redirected(_))),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_told_before_anything_is_asked_for() {
    let bench = Bench::new().await;
    bench.stub.offer(FILE, &bytes(1_000, 13));
    let listed = [bench.listed().await];
    let claim = |free: fn(&Path) -> io::Result<u64>| Folder::claim(bench.models.path(), &repository(), free).unwrap();
    // 64 MiB are left to others.
    let refused = claim(|_| Ok((64 << 20) + 400)).check_room(&listed).unwrap_err();
    assert!(
        matches!(refused, DownloadError::NoRoom { missing: 600, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("600 B more"), "{refused}");
    claim(|_| Ok((64 << 20) + 1_000)).check_room(&listed).unwrap();
    bench.pull().await.unwrap();
    claim(|_| Ok(0)).check_room(&listed).unwrap();
}

#[tokio::test]
async fn one_download_into_a_folder_at_a_time() {
    let bench = Bench::new().await;
    let claim = || Folder::claim(bench.models.path(), &repository(), free);
    let first = claim().unwrap();
    assert!(matches!(claim(), Err(DownloadError::Busy(_))));
    drop(first);
    claim().unwrap();
}

#[tokio::test]
async fn nobody_there_is_told_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let hub = Hub::new(&address, None).unwrap();
    let refused = hub.files(&repository()).await.unwrap_err();
    assert!(matches!(refused, HubError::Unreachable { .. }), "{refused}");
    for wrong in ["", "huggingface.co", "ftp://huggingface.co"] {
        assert!(matches!(Hub::new(wrong, None), Err(HubError::Endpoint(_))), "{wrong}");
    }
}

async fn ollama(routes: &[(&'static str, u16, &str)]) -> Ollama {
    let stub = Stub::start().await;
    for (path, status, body) in routes {
        stub.behaviour().ollama.insert(path, (*status, (*body).to_owned()));
    }
    let engine = Engine {
        kind: Backend::Ollama,
        url: stub.address,
        api_key: None,
        named: false,
    };
    Ollama::new(&engine).unwrap()
}

#[tokio::test]
async fn ollama_pulls_and_tells_how_far_it_is() {
    let steps = concat!(
        r#"{"status":"pulling manifest"}"#,
        "\n",
        r#"{"status":"pulling 8eeb52dfb3bb","digest":"sha256:8eeb","total":2000,"completed":1500}"#,
        "\n",
        r#"{"status":"verifying sha256 digest"}"#,
        "\n",
        r#"{"status":"success"}"#,
    );
    let progress = ProgressBar::hidden();
    ollama(&[("/api/pull", 200, steps)])
        .await
        .pull("m", &progress)
        .await
        .unwrap();
    assert_eq!((progress.position(), progress.length()), (1_500, Some(2_000)));
    assert_eq!(progress.message(), "success");
}

#[tokio::test]
async fn what_ollama_does_not_do_is_told_in_its_words() {
    let pull = async |status, body: &str| {
        let ollama = ollama(&[("/api/pull", status, body)]).await;
        ollama.pull("m", &ProgressBar::hidden()).await.unwrap_err()
    };
    let failed = pull(
        200,
        "{\"status\":\"pulling manifest\"}\n{\"error\":\"pull model manifest: file does not exist\"}\n",
    );
    let failed = failed.await;
    assert!(
        matches!(&failed, OllamaError::Said(why) if why.ends_with("does not exist")),
        "{failed}"
    );
    let ended = pull(200, "{\"status\":\"pulling manifest\"}\n").await;
    assert!(matches!(ended, OllamaError::Broken(_)), "{ended}");
    let endless = pull(200, &"x".repeat(100_000)).await;
    assert!(matches!(endless, OllamaError::Broken(_)), "{endless}");
    let refused = pull(500, r#"{"error":"disk is full"}"#).await;
    assert!(
        matches!(&refused, OllamaError::Said(why) if why == "disk is full"),
        "{refused}"
    );
}

#[tokio::test]
async fn ollamas_models_are_listed_shown_and_removed() {
    let tags = r#"{"models":[{"name":"llama3.2:latest","model":"llama3.2:latest","size":2019393189,"digest":"a80c"}]}"#;
    let show = r#"{"details":{"family":"llama"},"model_info":{"general.architecture":"llama"}}"#;
    let there = ollama(&[
        ("/api/tags", 200, tags),
        ("/api/show", 200, show),
        ("/api/delete", 200, ""),
    ])
    .await;
    let listed = there.tags().await.unwrap();
    assert_eq!(
        (listed[0].name.as_str(), listed[0].size),
        ("llama3.2:latest", 2_019_393_189)
    );
    assert_eq!(there.show("llama3.2").await.unwrap()["details"]["family"], "llama");
    there.delete("llama3.2").await.unwrap();
    let gone = ollama(&[("/api/delete", 404, r#"{"error":"model not found"}"#)]).await;
    let missing = gone.delete("x").await.unwrap_err();
    assert!(
        matches!(&missing, OllamaError::NoModel(name) if name == "x"),
        "{missing}"
    );
}
