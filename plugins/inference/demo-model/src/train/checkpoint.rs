//! Checkpoints: everything that a run needs to go on, in one safetensors file that is replaced as a whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, safetensors};

use super::optimizer::Optimizer;

/// Name of the tensor that holds the step and the next document.
const PROGRESS: &str = "progress";

fn path(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}

/// Writes `optimizer` and the number of the next document.
pub(super) fn save(folder: &Path, optimizer: &Optimizer, next: u64) -> Result<()> {
    let progress = [i64::try_from(optimizer.step)?, i64::try_from(next)?];
    let mut tensors = HashMap::from([(PROGRESS.to_owned(), Tensor::new(&progress, &Device::Cpu)?)]);
    for slot in &optimizer.slots {
        let shape = slot.var.shape();
        for (kind, values) in [
            ("first", &slot.first),
            ("second", &slot.second),
            ("average", &slot.average),
        ] {
            tensors.insert(
                format!("{kind}.{}", slot.name),
                Tensor::from_slice(values, shape, &Device::Cpu)?,
            );
        }
        tensors.insert(format!("weight.{}", slot.name), slot.var.as_detached_tensor());
    }
    let partial = folder.join("checkpoint.partial");
    safetensors::save(&tensors, &partial).context("cannot write the checkpoint")?;
    Ok(std::fs::rename(partial, path(folder))?)
}

/// Fills `optimizer` from the checkpoint in `folder` and gives the next document, or `None` where there is none.
pub(super) fn load(folder: &Path, optimizer: &mut Optimizer) -> Result<Option<u64>> {
    let path = path(folder);
    if !path.exists() {
        return Ok(None);
    }
    let tensors = safetensors::load(&path, &Device::Cpu).with_context(|| format!("cannot read {}", path.display()))?;
    let tensor = |name: &str| {
        tensors
            .get(name)
            .with_context(|| format!("{} has no `{name}`", path.display()))
    };
    let progress: Vec<i64> = tensor(PROGRESS)?.to_vec1()?;
    optimizer.step = progress
        .first()
        .copied()
        .context("no step in the checkpoint")?
        .try_into()?;
    for slot in &mut optimizer.slots {
        slot.var.set(tensor(&format!("weight.{}", slot.name))?)?;
        for (kind, values) in [
            ("first", &mut slot.first),
            ("second", &mut slot.second),
            ("average", &mut slot.average),
        ] {
            *values = tensor(&format!("{kind}.{}", slot.name))?.flatten_all()?.to_vec1()?;
        }
    }
    Ok(Some(
        progress
            .get(1)
            .copied()
            .context("no document in the checkpoint")?
            .try_into()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::{Optimizer, load, save};
    use crate::model::weights::initial;

    #[test]
    fn a_checkpoint_brings_everything_back() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut before = Optimizer::new(initial(1)?)?;
        before.step = 42;
        before.slots[0].second[7] = 0.5;
        save(folder.path(), &before, 99)?;
        let mut after = Optimizer::new(initial(2)?)?;
        assert_eq!(load(folder.path(), &mut after)?, Some(99));
        assert_eq!(after.step, 42);
        for (before, after) in before.slots.iter().zip(&after.slots) {
            assert_eq!(
                before.var.flatten_all()?.to_vec1::<f32>()?,
                after.var.flatten_all()?.to_vec1::<f32>()?
            );
            assert_eq!((&before.second, &before.average), (&after.second, &after.average));
        }
        Ok(())
    }

    #[test]
    fn no_checkpoint_is_no_mistake() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        assert_eq!(load(folder.path(), &mut Optimizer::new(initial(1)?)?)?, None);
        Ok(())
    }
}
