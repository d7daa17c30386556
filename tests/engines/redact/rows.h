/*
 * rows -- texts with what is to be found in them: [[ENTITY|text]]. What stands in no brackets is none.
 *
 * Made here: numbers with check digits of their own, in sentences, with neighbours that must not count.
 */
#pragma once

static const char *const rows[] = {
                /* cards */
                "pay with [[CREDIT_CARD|4012-8888-8888-1881]], not 4012-8888-8888-1882",
                "[[CREDIT_CARD|4012 8888 8888 1881]] 12 items, order 12 [[CREDIT_CARD|4012888888881881]].",
                "amex [[CREDIT_CARD|378282246310005]], diners [[CREDIT_CARD|38520000023237]] and jcb "
                "[[CREDIT_CARD|3530111333300000]]",
                "[[CREDIT_CARD|5555 5555 5555 4444]], [[CREDIT_CARD|2223003122003222]], "
                "[[CREDIT_CARD|6011-1111-1111-1117]]",
                "maestro [[CREDIT_CARD|6304000000000000]], union pay [[CREDIT_CARD|6200000000000005]]",
                "epoch 1748503543012 and hash 40128888888818810000001 are no cards",
                "maestro [[CREDIT_CARD|581869532183]] is in 2ea0f690-a43b-5a6d-17cc-581869532183, which is none, "
                "[[CREDIT_CARD|6091-8162-6647]] in 7daa6fb4-6091-8162-6647-c507f718bb51",
                "not a UUID: 7daa6fb-[[CREDIT_CARD|6091-8162-6647]]-c507f718bb51, a UUID in an address: "
                "[[URL|https://docs.example.com/7daa6fb4-6091-8162-6647-c507f718bb51]]",
                "a DNI [[ES_NIF|5436210E]], a UUID 5436210E-3958-c853-181f-73db1c32d3e1, "
                "none: [[ES_NIF|5436210E]]-3958-c853-181f-73db1c32d3e",
                /* accounts */
                "IBAN [[IBAN_CODE|GB82 WEST 1234 5698 7654 32]] please, or [[IBAN_CODE|DE89370400440532013000]]",
                "[[IBAN_CODE|NO93 8601 1117 947]] is the shortest, [[IBAN_CODE|MT84MALT011000012345MTLCAST001S]] long",
                "[[IBAN_CODE|FR14-2004-1010-0505-0001-3M02-606]]; wrong: FR14 2004 1010 0505 0001 3M02 607",
                "GB82 WEST 1234 5698 7654 3 is short and ZZ82 WEST 1234 5698 7654 32 nowhere",
                "routing [[ABA_ROUTING_NUMBER|021000021]], [[ABA_ROUTING_NUMBER|0260-0959-3]]; not 021000022",
                /* people of the United States */
                "SSN [[US_SSN|536-90-4399]], [[US_SSN|536 90 4398]], never 666-12-1234, 000-12-1234, 123-45-6789",
                "mixed 536-90 4399 and 536.90-4399 are none; my ssn is [[US_SSN|536904399]]",
                "ITIN [[US_ITIN|912-70-1234]] or 912-48-1234",
                /* mail */
                "write to [[EMAIL_ADDRESS|jane.doe+tag@example.co.uk]], <[[EMAIL_ADDRESS|bob@corp.local]]> or "
                "'[[EMAIL_ADDRESS|o'brien@example.org]]'.",
                "mailto:[[EMAIL_ADDRESS|a_b@sub.example.museum]]. info@presidio. and a@b are none",
                "[[EMAIL_ADDRESS|j\xc3\xbcrgen@b\xc3\xbc" "cher.de]]: sch\xc3\xb6n",
                /* phones */
                "call [[PHONE_NUMBER|+44 20 7946 0958]] or [[PHONE_NUMBER|020 7946 0958]]",
                "[[PHONE_NUMBER|(212) 555-1234]], [[PHONE_NUMBER|212-555-1234]], [[PHONE_NUMBER|212.555.1234 "
                "x9]], [[PHONE_NUMBER|+1 (212) 555-1234]]",
                "Berlin [[PHONE_NUMBER|+49 30 1234567]], Paris [[PHONE_NUMBER|01 23 45 67 89]], Rome "
                "[[PHONE_NUMBER|+39 06 678 4343]], Athens [[PHONE_NUMBER|+30 21 0123 4567]]",
                "[[PHONE_NUMBER|+81 90-1234-5678]] [[PHONE_NUMBER|+55 11 98456-5666]] "
                "[[PHONE_NUMBER|(11) 98456-5666]], [[PHONE_NUMBER|+91 98765 43210]]",
                "tel:[[PHONE_NUMBER|+14155550132]]; +1 555 1234 is short, +999 123 456 789 nowhere",
                "between 10 and 20, chapter 3.4.5, 1000 000 000 of 12 345 678",
                /* networks */
                "ping [[IP_ADDRESS|192.168.1.1]], [[IP_ADDRESS|10.0.0.0/8]] and [[IP_ADDRESS|2001:db8::1]].",
                "[[[IP_ADDRESS|::1]]]:80 [[IP_ADDRESS|fe80::1%eth0]] [[IP_ADDRESS|::ffff:10.0.0.1]] "
                "[[IP_ADDRESS|2001:db8:1::192.0.2.1]]",
                "no: 256.1.1.1, 1.2.3, 12:34:56, std::cout, dead::beef, 2001::25de::cade, 01.02.03.04x",
                "mac [[MAC_ADDRESS|00:1B:44:11:3A:B7]], [[MAC_ADDRESS|00-1b-44-11-3a-b7]], "
                "[[MAC_ADDRESS|001b.4411.3ab7]], not 00:00:00:00:00:00 nor 00:1B-44:11-3A:B7",
                /* the web */
                "see [[URL|https://en.example.org/wiki/Foo_(bar)]]. Or ([[URL|http://example.com/a?b=c#d]]), "
                "[[URL|www.example.co.uk]].",
                "my sites: [[URL|example.com]] [[URL|shop.example.co.il/path?q=1]]; http://intranet, main.py, "
                "README.md, done.It was, node.js, ASP.NET, e.g. i.e. 3.14",
                "[[URL|https://user:secret@db.example.net:8443/x?mail=a@example.com]]!",
                /* coins */
                "[[CRYPTO|1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa]], "
                "[[CRYPTO|bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq]] and "
                "[[CRYPTO|0x52908400098527886E0F7030069857D2E4169EE7]]; not "
                "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
                /* dates */
                "on [[DATE_TIME|5-20-2021]], [[DATE_TIME|21.5.21]], [[DATE_TIME|2021/05/20]], "
                "[[DATE_TIME|21-May]], [[DATE_TIME|May-2021]] and [[DATE_TIME|2024-03-15T14:30:00.5+01:00]]",
                "[[DATE_TIME|May 21, 2021]], [[DATE_TIME|21st of May 2021]]; born [[DATE_TIME|5/71]]; in 5/8 of cases",
                "13/13/2021, 2021-13-40, 1.2.3 and 32.5.2021 are none",
                /* the world */
                "NPI [[US_NPI|1245319599]], medicare [[US_MBI|1EG4-TE5-MK73]], dea [[MEDICAL_LICENSE|BB1388568]]",
                "NHS [[UK_NHS|943 476 5919]], NINO [[UK_NINO|AB 12 34 56 C]]",
                "[[ES_NIF|12345678Z]] [[ES_NIE|X1234567L]] [[IT_FISCAL_CODE|RSSMRA85T10A562S]] 12345678A",
                "PESEL [[PL_PESEL|44051401359]], HETU [[FI_PERSONAL_IDENTITY_CODE|131052-308T]], steuer "
                "[[DE_TAX_ID|86 095 742 719]], nir [[FR_NIR|2 55 08 14 168 025 38]]",
                "aadhaar [[IN_AADHAAR|2341 2341 2346]], pan [[IN_PAN|ABCPE1234F]], nric [[SG_NRIC_FIN|S1234567D]]",
                "ABN [[AU_ABN|51 824 753 556]], tfn [[AU_TFN|123 456 782]], medicare [[AU_MEDICARE|2123 45670 1]]",
                "kimlik [[TR_NATIONAL_ID|10000000146]], rrn [[KR_RRN|900101-1234568]]",
                "passport [[US_PASSPORT|912803456]]; driver license [[US_DRIVER_LICENSE|A1234567]]",
                /* secrets */
                "key [[API_KEY|AKIAIOSFODNN7EXAMPLE]], [[API_KEY|ghp_0123456789abcdefghijABCDEFGHIJ012345]], "
                "[[API_KEY|sk-proj-abcdefghij0123456789ABCDEFGHIJ]]",
                "[[JWT|eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c]]",
                "[[PRIVATE_KEY|-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf\n"
                "-----END RSA PRIVATE KEY-----]] and more",
                "[[PRIVATE_KEY|-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: "
                "AES-128-CBC,0123456789ABCDEF\n\nMHcCAQEEIBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPfMHcCAQEEIBAKj34GkxFh\n"
                "MIIB==\n-----END EC PRIVATE KEY-----]]\nand more",
                "\"key\": \"[[PRIVATE_KEY|-----BEGIN PRIVATE KEY-----\\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf"
                "\\nMIIB\\n-----END PRIVATE KEY-----]]\\n\"",
                "[[PRIVATE_KEY|-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\nlQHYBFhD90vcNLYLInFEX6Ppy1tPf"
                "\n=aB1c\n-----END PGP PRIVATE KEY BLOCK-----]]",
                "a file begins with -----BEGIN PRIVATE KEY----- and then come lines, it ends with -----END",
                /* neighbours of other scripts */
                "\xe2\x80\x9c[[EMAIL_ADDRESS|jane@example.com]]\xe2\x80\x9d\xe2\x80\x94[[URL|www.example.com]]\xe2\x80\xa6 "
                "\xf0\x9f\x93\x9e[[DATE_TIME|2024-05-17]]\xc2\xa0[[URL|example.com/a]]\xc2\xa0\xc2\xab[[CREDIT_CARD|4012888888881881]]\xc2\xbb",
                "\xe6\x97\xa5\xe6\x9c\x9f[[DATE_TIME|2024-05-17]]\xe3\x80\x82\xe8\xaf\xb7\xe7\x9c\x8b[[URL|https://example.com/a]]"
                "\xef\xbc\x8c\xe3\x80\x8c[[EMAIL_ADDRESS|jane@example.com]]\xe3\x80\x8d [[URL|example.com]]\xe4\xb8\xad",
                "\xc3\xa9" "2024-05-17 is a word, and so is [[EMAIL_ADDRESS|jane@example.com]]\xe4\xb8\xad",
                /* brackets and labels */
                "call ([[PHONE_NUMBER|415-555-0132]]), (([[PHONE_NUMBER|(415) 555-0132]])); mac:[[MAC_ADDRESS|00:1A:2B:3C:4D:5E]], "
                "not 00:1A:2B:3C:4D:5E:6F nor 00-1A-2B-3C-4D-5E-6F",
                "([[URL|https://en.wikipedia.org/wiki/Foo_(bar)]]) 6304-4547-4855-4565 p->conn.next entry.name",
                /* prose */
                "The mill turns while water runs; nobody counts the 12 stones, nor the 3,400 sacks of 1999.",
                "Gr\xc3\xb6\xc3\x9f" "e 42, \xe6\xbc\xa2\xe5\xad\x97 7, emoji \xf0\x9f\x98\x80 and nothing else",
};
#define ROWS_N (sizeof(rows) / sizeof(rows[0]))
