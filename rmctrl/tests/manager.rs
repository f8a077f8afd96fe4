//! The whole `rmctrl` on the in-process bus: overload is put into its counter pages, and everybody who should know is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use bus::messages::common::Execute;
use bus::messages::rmctrl::{
    CongestedService, Congestion, CongestionAction, CongestionChanged, GetCongestion, GetDataPlaneCores,
};
use bus::messages::sit::Opened;
use bus::{Address, Bus, Facility, Hub};
use telemetry::counters::wsg::CURRENT_SESSIONS;
use telemetry::{Counters, Scope};

const RMCTRL: Address = Address::only(Facility::Rmctrl);
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = "config
  congestion-control
  congestion-control policy wsg-service action reject
  congestion-control threshold max-sessions-per-service-utilization 50
  no congestion-control threshold service-control-cpu-utilization
  no congestion-control threshold system-cpu-utilization
  no congestion-control threshold system-memory-utilization
  no congestion-control threshold message-queue-wait-time
  threshold cpu-crypto-cores-utilization 80 clear 60
  context isp
    wsg-service enb
      max-sessions 4
    #exit
    wsg-service other
      max-sessions 4
    #exit
  #exit
end
";

struct World {
    bus: Bus,
    folder: PathBuf,
    shutdown: task::Shutdown,
}

impl World {
    async fn start() -> Self {
        let hub = Hub::new();
        let folder = std::env::temp_dir().join(format!("rmctrl-manager-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("run/counters")).unwrap();
        tokio::spawn(task::testing::play_sct(hub.clone(), CONFIGURATION.to_owned()));
        let (task, sit) = task::testing::task(&hub, RMCTRL, 2, &folder).unwrap();
        let shutdown = task.shutdown.clone();
        tokio::spawn(task::testing::play_sit(sit, |_| (Opened::default(), Vec::new())));
        tokio::spawn(async move { rmctrl::run(task).await.unwrap() });
        let bus = Bus::in_process_client(&hub, Address::new(Facility::Ipsecmgr, 1));
        Self {
            bus,
            folder,
            shutdown,
        }
    }

    async fn show(&self, command: &str, words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(|word| (*word, "")).collect();
        let request = Execute::new(command, &words);
        let output = self.bus.request(RMCTRL, &request, PATIENCE).await.unwrap();
        assert_eq!(output.failure, "", "{command}");
        output.heading + &output.text
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn overload_is_told_and_shown_and_so_is_its_end() {
    let world = World::start().await;
    // As every ipsecmgr follows it.
    let mut congestion =
        task::follow::<GetCongestion, CongestionChanged>(&world.bus, RMCTRL, GetCongestion {});
    let mut told = async |wanted: fn(&Congestion) -> bool| {
        let found = async {
            loop {
                let congestion = congestion.next().await;
                if wanted(&congestion) {
                    return congestion;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap()
    };
    // The policy is known, and nothing is wrong.
    let calm = told(|congestion| congestion.action() == CongestionAction::Reject).await;
    assert!(!calm.everywhere && calm.services.is_empty());

    // Three of four sessions, counted by two managers.
    let sessions: Vec<_> = [(1, 2), (2, 1)]
        .into_iter()
        .map(|(instance, count)| {
            let counters = Counters::open(&world.folder.join("run/counters"), "sessmgr", instance).unwrap();
            let page = counters.scoped(&Scope::wsg("isp", "enb")).unwrap();
            page.set(CURRENT_SESSIONS, count);
            (counters, page)
        })
        .collect();
    let overload = told(|congestion| !congestion.services.is_empty()).await;
    let enb = CongestedService {
        context: "isp".to_owned(),
        service: "enb".to_owned(),
    };
    assert_eq!((overload.everywhere, overload.services), (false, vec![enb]));
    let shown = world.show("show congestion-control", &["statistics"]).await;
    assert!(
        shown.contains("status : Applied") && shown.contains("isp enb 75.00%"),
        "{shown}"
    );

    for (_, page) in &sessions {
        page.set(CURRENT_SESSIONS, 0);
    }
    let after = told(|congestion| congestion.services.is_empty()).await;
    assert!(!after.everywhere);
    let shown = world.show("show congestion-control", &["statistics"]).await;
    assert!(
        shown.contains("status : Cleared") && shown.contains("applied        : 1 times"),
        "{shown}"
    );

    for (command, words, expected) in [
        (
            "show congestion-control",
            &["configuration"][..],
            "max sessions per service utilization:  50%",
        ),
        ("show threshold", &[], "Clear Threshold: 60%"),
        ("show cpu table", &[], " 1/0  Actve"),
        ("show cpu info", &[], "CPU Usage All"),
        ("show cpu info", &["crypto-cores"], "Card 1, CPU 0:"),
        (
            "show crypto managers",
            &["summary"],
            "Managers                    : 2",
        ),
        ("show task resources", &[], "task   cputime"),
    ] {
        let shown = world.show(command, words).await;
        assert!(shown.contains(expected), "{command}: {shown}");
    }
    // There is no data plane here.
    let cores = world
        .bus
        .request(RMCTRL, &GetDataPlaneCores {}, PATIENCE)
        .await
        .unwrap();
    assert!(cores.cores.is_empty());
    world.shutdown.request(PATIENCE);
}
