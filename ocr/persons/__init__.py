"""What holders of cards may ask for: what is held about them, a copy of it, its erasure, a legal hold on it."""
