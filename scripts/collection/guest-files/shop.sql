CREATE DATABASE shop;
USE shop;
CREATE TABLE items (
    id INT PRIMARY KEY,
    name VARCHAR(64) NOT NULL,
    description VARCHAR(200) NOT NULL,
    price DECIMAL(8, 2) NOT NULL,
    shelf INT NOT NULL,
    KEY (name),
    KEY (shelf)
) ENGINE = InnoDB;
CREATE TABLE orders (
    id INT PRIMARY KEY AUTO_INCREMENT,
    item INT NOT NULL,
    pieces INT NOT NULL,
    placed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    remark VARCHAR(120) NOT NULL,
    KEY (item)
) ENGINE = InnoDB;
