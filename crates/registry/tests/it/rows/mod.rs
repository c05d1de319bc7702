//! The faults that registries and networks have, one after the other, each injected into a check, a pull and a push where it
//! can happen there. The names of the tests begin with the fault's number (R01 to R96).

mod bytes;
mod connection;
mod credentials;
mod kill;
mod lists;
mod parts;
mod protocol;
mod proxies;
mod scale;
mod shapes;
mod status;
mod stop;
mod tls;
mod tokens;
mod upload;
mod world;
