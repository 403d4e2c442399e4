//! How a cache is opened: its driver and its durability.

use image_cache::{DriverChoice, Durability, Options};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Configuration {
    pub driver: DriverChoice,
    pub durability: Durability,
}

impl Configuration {
    pub const ALL: [Self; 4] = [
        Self { driver: DriverChoice::Sqlite, durability: Durability::Full },
        Self { driver: DriverChoice::Sqlite, durability: Durability::None },
        Self { driver: DriverChoice::Xattr, durability: Durability::Full },
        Self { driver: DriverChoice::Xattr, durability: Durability::None },
    ];

    pub fn options(self) -> Options {
        Options::new().driver(self.driver).durability(self.durability)
    }

    pub fn driver_name(self) -> &'static str {
        if self.driver == DriverChoice::Sqlite { "sqlite" } else { "xattr" }
    }

    pub fn durability_name(self) -> &'static str {
        if self.durability == Durability::Full { "full" } else { "none" }
    }

    pub fn is_xattr_without_durability(self) -> bool {
        !self.is_sqlite() && self.durability == Durability::None
    }

    pub fn is_sqlite(self) -> bool {
        self.driver == DriverChoice::Sqlite
    }
}
