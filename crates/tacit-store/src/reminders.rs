use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use tacit_types::FunctionId;

use crate::error::{StoreError, is_disk_full};

/// Most reminders that are looked at together.
const MOST: usize = 65_536;

/// Says in the open which functions have work that waits in their sealed state, so that a worker that holds none of it can
/// take it over when its holder is gone.
///
/// A reminder is a hint and nothing more. A store that drops it delays the work, and one that makes it up has a worker look in
/// vain. Each is named by function and fence: a holder that was replaced and does not know it cannot take away its
/// successor's.
#[derive(Clone)]
pub struct Reminders {
    store: Arc<dyn ObjectStore>,
}

impl Reminders {
    /// The reminders in `store`.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Says that work of `function` waits.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], [`StoreError::Backend`].
    pub async fn put(&self, function: FunctionId, fence: u64) -> Result<(), StoreError> {
        match self.store.put(&path(function, fence), Vec::new().into()).await {
            Ok(_) => Ok(()),
            Err(error) if is_disk_full(&error) => Err(StoreError::DiskFull(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the reminders of a function away that were put under `fence` or a lower one.
    ///
    /// # Errors
    /// [`StoreError::Backend`].
    pub async fn clear(&self, function: FunctionId, fence: u64) -> Result<(), StoreError> {
        for found in self.list(Some(function)).await? {
            if found.1 <= fence {
                match self.store.delete(&path(function, found.1)).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// The functions whose work waits.
    ///
    /// # Errors
    /// [`StoreError::Backend`].
    pub async fn functions(&self) -> Result<BTreeSet<FunctionId>, StoreError> {
        Ok(self.list(None).await?.into_iter().map(|(function, _)| function).collect())
    }

    async fn list(&self, function: Option<FunctionId>) -> Result<Vec<(FunctionId, u64)>, StoreError> {
        let prefix = match function {
            Some(function) => Path::from(format!("reminders/{function}")),
            None => Path::from("reminders"),
        };
        let found = self.store.list(Some(&prefix)).take(MOST).map_err(StoreError::from);
        found.try_filter_map(async |meta| Ok(parse(&meta.location))).try_collect().await
    }
}

fn path(function: FunctionId, fence: u64) -> Path {
    Path::from(format!("reminders/{function}/{fence:020}"))
}

fn parse(location: &Path) -> Option<(FunctionId, u64)> {
    let mut parts = location.parts().skip(1);
    let function = parts.next()?.as_ref().parse().ok()?;
    let fence: u64 = parts.next()?.as_ref().parse().ok()?;
    (*location == path(function, fence)).then_some((function, fence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    #[tokio::test]
    async fn a_reminder_stands_until_its_own_or_a_later_holder_takes_it_away() {
        let store = Arc::new(InMemory::new());
        let reminders = Reminders::new(Arc::clone(&store) as Arc<dyn ObjectStore>);
        let (one, two) = (FunctionId::from([1; 32]), FunctionId::from([2; 32]));
        assert!(reminders.functions().await.unwrap().is_empty());
        reminders.put(one, 3).await.unwrap();
        reminders.put(one, 3).await.unwrap();
        reminders.put(one, 5).await.unwrap();
        reminders.put(two, 1).await.unwrap();
        // What is not a reminder is passed over.
        store.put(&Path::from("reminders/x/1"), Vec::new().into()).await.unwrap();
        store.put(&Path::from(format!("reminders/{two}/7")), Vec::new().into()).await.unwrap();
        store
            .put(&Path::from(format!("{one}/00000000000000000001.00000000000000000001")), Vec::new().into())
            .await
            .unwrap();
        assert_eq!(reminders.functions().await.unwrap(), BTreeSet::from([one, two]));
        reminders.clear(one, 4).await.unwrap();
        assert_eq!(reminders.functions().await.unwrap(), BTreeSet::from([one, two]));
        reminders.clear(one, 5).await.unwrap();
        assert_eq!(reminders.functions().await.unwrap(), BTreeSet::from([two]));
        reminders.clear(two, 9).await.unwrap();
        assert!(reminders.functions().await.unwrap().is_empty());
    }
}
