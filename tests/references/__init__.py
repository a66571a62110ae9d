"""What tests of the recording compare with: plain computations from the definitions, and a witness of calls."""
