-- The tables of PostfixAdmin 3.3 that its users are in, as SQLite has them; names are
-- compared without the spaces at their end, as MySQL does.
CREATE TABLE domain (
  domain varchar(255) NOT NULL PRIMARY KEY, description varchar(255) NOT NULL DEFAULT '', aliases integer NOT NULL DEFAULT 0,
  mailboxes integer NOT NULL DEFAULT 0, maxquota bigint NOT NULL DEFAULT 0, quota bigint NOT NULL DEFAULT 0,
  transport varchar(255) NOT NULL DEFAULT '', backupmx integer NOT NULL DEFAULT 0,
  created datetime NOT NULL DEFAULT '2000-01-01 00:00:00', modified datetime NOT NULL DEFAULT '2000-01-01 00:00:00',
  active integer NOT NULL DEFAULT 1, password_expiry int DEFAULT 0);
CREATE TABLE mailbox (
  username varchar(255) NOT NULL COLLATE RTRIM PRIMARY KEY, password varchar(255) NOT NULL, name varchar(255) NOT NULL, maildir varchar(255) NOT NULL,
  quota bigint NOT NULL DEFAULT 0, local_part varchar(255) NOT NULL, domain varchar(255) NOT NULL,
  created datetime NOT NULL DEFAULT '2000-01-01 00:00:00', modified datetime NOT NULL DEFAULT '2000-01-01 00:00:00',
  active integer NOT NULL DEFAULT 1, phone varchar(30) NOT NULL DEFAULT '', email_other varchar(255) NOT NULL DEFAULT '',
  token varchar(255) NOT NULL DEFAULT '', token_validity datetime NOT NULL DEFAULT '2000-01-01 00:00:00',
  password_expiry datetime NOT NULL DEFAULT '2000-01-01 00:00:00');
