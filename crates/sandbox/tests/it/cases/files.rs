super::cases! {}
