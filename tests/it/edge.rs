//! What tools and operators see of a process: which services it has, whether it serves, how calls end when time or the process does.
use std::{collections::BTreeSet, time::Duration};

use chassis::testing::{Backend, eventually, fault};
use clientele::client::{Client, SERVICES, request_within};
use e2e::{
    cdnow,
    program::{Process, free_port},
    wire,
    world::World,
};
use prost_reflect::{DescriptorPool, prost::Message, prost_types::FileDescriptorProto};
use proto::scoring::v1 as scoring;
use tonic::{Code, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{PROGRAM, terminal::refused};

/// What a tool such as grpcurl asks: the names of all services, then the file that each stands in and all that it needs. Both versions of
/// reflection have the same messages under different names.
macro_rules! reflected {
    ($name:ident, $version:ident) => {
        async fn $name(world: &World) -> DescriptorPool {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let mut client = ServerReflectionClient::new(world.server.channel());
            let mut ask = async |question| {
                let question = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
                let questions = tokio_stream::iter([question]);
                let mut answers = client.server_reflection_info(questions).await.unwrap().into_inner();
                answers.message().await.unwrap().unwrap().message_response.unwrap()
            };
            let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await
            else {
                panic!("no list")
            };
            let mut files = std::collections::BTreeMap::new();
            let mut wanted: Vec<_> =
                list.service.into_iter().map(|one| MessageRequest::FileContainingSymbol(one.name)).collect();
            while let Some(question) = wanted.pop() {
                let MessageResponse::FileDescriptorResponse(answer) = ask(question).await else { panic!("no file") };
                for bytes in answer.file_descriptor_proto {
                    let file = FileDescriptorProto::decode(bytes.as_slice()).unwrap();
                    for name in &file.dependency {
                        if !files.contains_key(name) {
                            wanted.push(MessageRequest::FileByFilename(name.clone()));
                        }
                    }
                    files.insert(file.name().to_owned(), file);
                }
            }
            let mut pool = DescriptorPool::new();
            pool.add_file_descriptor_protos(files.into_values()).unwrap();
            pool
        }
    };
}
reflected!(reflected_v1, v1);
reflected!(reflected_v1alpha, v1alpha);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_learn_every_service_from_the_server_and_can_call_it() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let expected: BTreeSet<_> = wire::methods().iter().map(|method| method.full_name().to_owned()).collect();
    for pool in [reflected_v1(&world).await, reflected_v1alpha(&world).await] {
        let methods: Vec<_> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        let names: BTreeSet<_> = methods.iter().map(|method| method.full_name().to_owned()).collect();
        assert!(expected.is_subset(&names), "missing: {:?}", expected.difference(&names));
        // Called by nothing but what was learned.
        for method in methods.iter().filter(|method| expected.contains(method.full_name())) {
            if let Err(status) = wire::call(&world.server.channel(), method, vec![Vec::new()]).await {
                assert!(!fault(&status).1.is_empty(), "{}: {status:?}", method.full_name());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_its_callers_deadline() {
    let world = World::start(Backend::Sqlite, cdnow::clock()).await;
    let watch = request_within(scoring::WatchScoresRequest::default(), Duration::from_millis(300));
    let mut stream = world.client.scoring().watch_scores(watch).await.unwrap().into_inner();
    let status = last_word(&mut stream).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(fault(&status).1, "DEADLINE_EXCEEDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_told_to_end_says_so_and_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut server =
        Process::new(PROGRAM, &[], free_port(), folder.path()).with("CLIENTELE_SERVER__DRAIN_DELAY_S", "1");
    server.start().await;
    let client = Client::new(&[server.url()]).unwrap();
    let health = HealthClient::new(chassis::peers::channel("server", &server.url(), None).unwrap());
    let status_of = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.clone().check(request).await.map(|reply| reply.into_inner().status)
    };
    let services: BTreeSet<_> =
        wire::methods().iter().map(|method| method.parent_service().full_name().to_owned()).collect();
    assert_eq!(services.len(), SERVICES.len());
    for service in &services {
        assert_eq!(status_of(service).await.unwrap(), 1, "{service}");
    }
    let mut watchers = Vec::new();
    for _ in 0..3 {
        let watch = scoring::WatchScoresRequest::default();
        watchers.push(client.scoring().watch_scores(watch).await.unwrap().into_inner());
    }
    let ending = tokio::spawn(async move { (server.terminate().await, server.log()) });
    // For a moment it goes on answering, and says that it should be asked no more.
    eventually("it says that it drains", || async { !matches!(status_of("").await, Ok(1)) }).await;
    for mut stream in watchers {
        let status = last_word(&mut stream).await;
        assert_eq!((status.code(), fault(&status).1.as_str()), (Code::Unavailable, "DRAINING"), "{status:?}");
    }
    let (status, log) = ending.await.unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_is_one_process_s_while_it_runs_and_whole_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Process::new(PROGRAM, &[], free_port(), folder.path());
    server.start().await;
    let data = folder.path().join("data").display().to_string();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", &data];
    for services in [&[][..], &["scoring"]] {
        let wrong = refused(&[&serve[..], services].concat()).await;
        assert!(
            wrong.contains("another clientele") && wrong.contains(&data) && wrong.contains("--data-dir"),
            "{wrong}"
        );
    }
    let demo = ["demo", "--exit", "--listen", "127.0.0.1:0", "--data-dir", &data];
    assert!(refused(&demo).await.contains("databases that no demo made"));
    let logs = || {
        let names = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with("-wal")).count()
    };
    // However it ended, the folder is free again. Killed, it leaves logs with what was committed last; ended properly, whole files alone.
    server.kill();
    assert_eq!(logs(), SERVICES.len());
    assert!(refused(&demo).await.contains("databases that no demo made"));
    server.start().await;
    assert_eq!(server.terminate().await.code(), Some(0));
    assert_eq!(logs(), 0, "{}", server.log());
}

/// How a stream ends.
async fn last_word<M>(stream: &mut Streaming<M>) -> tonic::Status {
    loop {
        match tokio::time::timeout(chassis::testing::DEADLINE, stream.message()).await.expect("it ends in time") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => return status,
        }
    }
}
