"""The traditional pipeline that a policy is compared with: recognised text plus layout rules driven by a schema."""
