//! How does a layer become files, and files a layer?
