//! The processors of the data plane, as `rmctrl` measures them.

use std::time::Duration;

use bus::messages::rmctrl::{DataPlaneCores, GetDataPlaneCores};
use bus::{Address, Bus, Facility};
use tokio::sync::mpsc;
use tokio::time::sleep;

const RMCTRL: Address = Address::only(Facility::Rmctrl);
/// As often as it measures.
const INTERVAL: Duration = Duration::from_secs(5);

/// Asks again and again, as long as somebody listens; an `rmctrl` that does not answer knows of none.
pub fn ask(bus: &Bus) -> mpsc::Receiver<DataPlaneCores> {
    let (sender, cores) = mpsc::channel(1);
    let bus = bus.clone();
    tokio::spawn(async move {
        loop {
            let answer = bus.request(RMCTRL, &GetDataPlaneCores {}, INTERVAL).await;
            if sender.send(answer.unwrap_or_default()).await.is_err() {
                return;
            }
            sleep(INTERVAL).await;
        }
    });
    cores
}
