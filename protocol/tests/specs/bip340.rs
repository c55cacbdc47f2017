//! BIP-340's own vectors, all nineteen, against the signatures that the protocol rests on.

use k256::schnorr::{Signature, SigningKey, VerifyingKey};

struct Row {
    index: usize,
    secret: Option<[u8; 32]>,
    public: [u8; 32],
    entropy: Option<[u8; 32]>,
    message: Vec<u8>,
    signature: [u8; 64],
    holds: bool,
}

fn fixed<const N: usize>(text: &str) -> [u8; N] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn rows() -> Vec<Row> {
    let table = crate::vector_file("bip340.csv");
    let rows = table.lines().filter(|line| !line.starts_with('#')).skip(1);
    let row = |line: &str| {
        let cells: Vec<&str> = line.splitn(8, ',').collect();
        let optional = |cell: &str| (!cell.is_empty()).then(|| fixed(cell));
        Row {
            index: cells[0].parse().unwrap(),
            secret: optional(cells[1]),
            public: fixed(cells[2]),
            entropy: optional(cells[3]),
            message: hex::decode(cells[4]).unwrap(),
            signature: fixed(cells[5]),
            holds: match cells[6] {
                "TRUE" => true,
                "FALSE" => false,
                other => panic!("`{other}` is neither TRUE nor FALSE"),
            },
        }
    };
    rows.map(row).collect()
}

#[test]
fn every_signature_verifies_or_not_as_the_table_says() {
    let rows = rows();
    assert_eq!(rows.len(), 19);
    for row in &rows {
        let verify = || {
            let key = VerifyingKey::from_slice(&row.public).ok()?;
            let signature = Signature::from_bytes(&row.signature).ok()?;
            key.verify_raw(&row.message, &signature).ok()
        };
        assert_eq!(verify().is_some(), row.holds, "row {}", row.index);
    }
}

#[test]
fn every_secret_makes_the_signature_of_the_table() {
    let mut made = 0;
    for row in rows() {
        let (Some(secret), Some(entropy)) = (row.secret, row.entropy) else {
            continue;
        };
        let key = SigningKey::from_slice(&secret).unwrap();
        assert_eq!(
            key.verifying_key().to_bytes().as_slice(),
            row.public,
            "row {}",
            row.index
        );
        let signature = key.sign_raw(&row.message, &entropy).unwrap();
        assert_eq!(signature.to_bytes(), row.signature, "row {}", row.index);
        made += 1;
    }
    assert_eq!(made, 8);
}
